"""Emulate the Batch APIs of OpenAI, Anthropic and Gemini on loopback, with a billing log and faults on demand.

It speaks the wire protocols from the providers' documentation and the installed SDKs and shares no code with the
product: it is the judge in the crash proof, so it must not repeat the product's mistakes.
"""

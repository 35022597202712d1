#!/usr/bin/env python3
"""A plain local port that reaches one name of a gateway, for clients that cannot do it themselves.

The hop speaks TLS 1.3 to the gateway, asks for NAME and shows a certificate. Whoever can connect to the
local port acts as that client, so it listens on loopback only.

usage: hop.py LOCAL_PORT GATEWAY_HOST GATEWAY_PORT NAME CA CERTIFICATE KEY
"""

import asyncio
import ssl
import sys


async def pump(reader, writer):
    """Passes bytes on until one side ends."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main():
    """Serves until it is ended."""
    if len(sys.argv) != 8:
        sys.exit(__doc__)
    local_port, host, port, name, authority, certificate, key = sys.argv[1:]
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)

    async def serve(reader, writer):
        try:
            gateway = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)
        except OSError as error:
            print(f"hop: {error}", file=sys.stderr)
            writer.close()
            return
        await asyncio.gather(pump(reader, gateway[1]), pump(gateway[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", int(local_port))
    await server.serve_forever()


asyncio.run(main())

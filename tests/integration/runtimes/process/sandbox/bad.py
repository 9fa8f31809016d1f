"""An agent that misbehaves in the way its argument says, once it is asked to."""

import os
import socket
import sys
import time

WAY = sys.argv[1]


def fork_bomb():
    refused = 0
    while refused < 3:
        try:
            if os.fork() == 0:
                time.sleep(600)
        except OSError:
            refused += 1
    print("refused", flush=True)


def fork_again_and_again():
    while True:
        try:
            if os.fork() == 0:
                time.sleep(600)
        except OSError:
            pass


def hog_memory():
    kept = []
    while True:
        kept.append(bytearray(16 * 1024 * 1024))


def hog_memory_in_a_child():
    if os.fork() == 0:
        hog_memory()
    os.wait()
    print("still here", flush=True)


def fill_the_disk():
    block = b"x" * (1024 * 1024)
    with open(os.path.join(os.environ["HOME"], "full"), "wb") as file:
        while True:
            file.write(block)
            file.flush()
            time.sleep(0.01)


def fill_the_folder_of_sockets():
    block = b"x" * (1024 * 1024)
    folder = os.path.dirname(os.environ["TRUNKLINE_AGENT_SOCKET"])
    with open(os.path.join(folder, "full"), "wb") as file:
        while True:
            file.write(block)
            file.flush()
            time.sleep(0.01)


def nest_folders():
    os.chdir(os.environ["HOME"])
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")


def fill_tmp():
    block = b"x" * (1024 * 1024)
    try:
        with open("/tmp/full", "wb") as file:
            while True:
                file.write(block)
    except OSError as error:
        print(error.strerror, flush=True)


def pause():
    time.sleep(600)


def spin():
    if os.fork() == 0:
        while True:
            pass
    while True:
        pass


server = socket.socket(socket.AF_UNIX)
server.bind(os.environ["TRUNKLINE_AGENT_SOCKET"])
server.listen()
while True:
    connection, _ = server.accept()
    with connection:
        path = connection.recv(4096).split(b" ")[1].decode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    if path == "/misbehave":
        globals()[WAY]()

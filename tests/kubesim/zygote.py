"""Starts `dagster …` of pods in forks of one process that has imported it already: seconds of imports a pod become nothing.

    python -m tests.kubesim.zygote SOCKET MODULE…        the process to fork
    python tests/kubesim/zygote.py SOCKET dagster …      what the kubelet runs in a pod's place: it waits for the fork's end

The fork gets the pod's environment, standard output and arguments; its exit code becomes the pod's.
"""

import json
import os
import signal
import socket
import sys
import traceback


def serve(path: str, modules: list[str]) -> None:
    """Import, then fork for every caller."""
    import importlib

    for module in ("dagster._cli", *modules):
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(256)
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:  # the guard: it forks once more and answers with the exit code
            server.close()
            _guard(connection)
        connection.close()
        _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _guard(connection: socket.socket) -> None:
    message, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 1)
    while not message.endswith(b"\n"):
        message += connection.recv(1 << 20)
    call = json.loads(message)
    child = os.fork()
    if child == 0:
        connection.close()
        _be(call["arguments"], call["environment"], descriptors[0])
    os.close(descriptors[0])
    connection.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _be(arguments: list[str], environment: dict[str, str], output: int) -> None:
    """Run the command line of Dagster in this process."""
    from dagster._cli import main

    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    code = 1
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def call(path: str, arguments: list[str]) -> int:
    """Run the arguments in a fork; its exit code. SIGTERM is passed on."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    message = json.dumps({"arguments": arguments, "environment": dict(os.environ)}).encode() + b"\n"
    sent = socket.send_fds(connection, [message], [1])
    connection.sendall(message[sent:])
    answers = connection.makefile()
    child = int(answers.readline())
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, number))
    code = int(answers.readline())
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    if sys.argv[2:3] == ["dagster"]:
        sys.exit(call(sys.argv[1], sys.argv[2:]))
    serve(sys.argv[1], sys.argv[2:])

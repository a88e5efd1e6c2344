"""What a hostile submission may try: acts that a confined process survives, and acts that it does not.

Each is the body of a function `act()` in somebody's model.py; it returns a word, or raises. `OUTSIDE` stands for a folder outside.
"""

import textwrap

# Acts after which the process goes on; the word says what it got: "stopped" where the system refused.
SURVIVED = {
    "read the password file": "return open('/etc/passwd').read()",
    "read the shadow file": "return open('/etc/shadow').read()",
    "read the home folder": (
        "import os, sys\n"
        "seen = os.listdir('/root')  # what leads to the environment is there, nothing else\n"
        "return 'stopped' if all(name in sys.prefix + sys.base_prefix for name in seen) else 'got it'"
    ),
    "read another group's folder": "return open('OUTSIDE/secret.txt').read()",
    "list another group's folder": "return ' '.join(__import__('os').listdir('OUTSIDE'))",
    "read through the parent's root": "return open('/proc/1/root/etc/passwd').read()",
    "read the app's environment": "import os; return 'stopped' if 'HOSTILE_SECRET' not in os.environ else 'got it'",
    "read another's environment": (
        "import os\n"
        "found = b''.join(open(f'/proc/{p}/environ', 'rb').read() for p in os.listdir('/proc') if p.isdigit())\n"
        "return 'got it' if b'HOSTILE_SECRET' in found else 'stopped'"
    ),
    "see other processes": (
        "import os\nreturn 'stopped' if len([p for p in os.listdir('/proc') if p.isdigit()]) < 5 else 'got it'"
    ),
    "write outside": "open('OUTSIDE/written', 'w').write('x'); return 'got it'",
    "write into its own folder": "open('model.py', 'a').write('x'); return 'got it'",
    "delete its own folder": "__import__('os').remove('model.py'); return 'got it'",
    "write into the project": "import explorer; open(explorer.__file__, 'a').write('#'); return 'got it'",
    "write into the environment": "import torch; open(torch.__file__, 'a').write('#'); return 'got it'",
    "write to the root": "open('/x', 'w').write('x'); return 'got it'",
    "link outside and write": (
        "import os\nos.symlink('OUTSIDE/linked', '/tmp/link')\nopen('/tmp/link', 'w').write('x'); return 'got it'"
    ),
    "write a large file": "f = open('/tmp/big', 'wb')\nfor _ in range(80): f.write(bytes(1 << 20))\nreturn 'got it'",
    "fill shared memory": "f = open('/dev/shm/big', 'wb')\nfor _ in range(8): f.write(bytes(1 << 20)); f.flush()\nreturn 'got it'",
    "fork": "__import__('os').fork(); return 'got it'",
    "fork by multiprocessing": "import multiprocessing as m; p = m.get_context('fork').Process(target=print); p.start(); return 'got it'",
    "start a shell": "return __import__('subprocess').run('id', shell=True, capture_output=True).stdout.decode() or 'got it'",
    "os.system": "return 'stopped' if __import__('os').system('touch OUTSIDE/system') != 0 else 'got it'",
    "exec": "__import__('os').execv('/bin/true', ['true'])",
    "posix_spawn": "__import__('os').posix_spawn('/bin/true', ['true'], {}); return 'got it'",
    "open a socket": "import socket; socket.create_connection(('127.0.0.1', PORT), 1); return 'got it'",
    "open a raw socket": "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); return 'got it'",
    "open a local socket": "import socket; socket.socket(socket.AF_UNIX); return 'got it'",
    "resolve a name": "import socket; return str(socket.getaddrinfo('example.com', 80))",
    "download": "import urllib.request; return str(urllib.request.urlopen('http://127.0.0.1:PORT', timeout=1))",
    "kill its parent": "import os; os.kill(os.getppid(), 9); return 'got it'",
    "kill everything": "import os; os.kill(-1, 9); return 'got it'",
    "trace its parent": "import ctypes, os; return 'stopped' if ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) else 'got it'",
    "mount": "import ctypes; return 'stopped' if ctypes.CDLL(None).mount(b'/proc', b'/tmp', b'proc', 0, None) else 'got it'",
    "new namespaces": "import ctypes; return 'stopped' if ctypes.CDLL(None).unshare(0x10000000) else 'got it'",
    "raise its limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2); return 'got it'"
    ),
    "change its user": "__import__('os').setuid(1234); return 'got it'",
    "allocate a tensor of 100 GB": "import torch; return str(torch.ones(25 * 10**9).sum())",
    "allocate lists": "x = []\nwhile True: x.append(bytearray(256 << 20))",
    "ask for a traceback of the app": "import sys; return 'stopped' if 'streamlit' not in sys.modules else 'got it'",
    "end by sys.exit": "import sys; sys.exit(3)",
    "interrupt": "raise KeyboardInterrupt",
    "deep recursion": "def f(): return f()\nf()",
    "print a lot": "for _ in range(200): print('x' * 10**6)\nreturn 'stopped'",
    "write to standard error": "import sys\nfor _ in range(200): sys.stderr.write('x' * 10**6)\nreturn 'stopped'",
    "write to the closed pipes": "import os\nfor fd in (0, 1, 2): os.write(fd, b'garbage' * 1000)\nreturn 'stopped'",
}
# Acts that end the process: one sentence each.
DEADLY = {
    "os._exit": "__import__('os')._exit(0)",
    "a crash": "import ctypes; ctypes.string_at(0)",
    "answers of its own": "import os\nfor fd in range(3, 20):\n    try: os.write(fd, b'\\xff' * 100000)\n    except OSError: pass",
    "an endless sleep": "import time; time.sleep(10**6)",
    "an endless loop": "while True: pass",
    "its own pipes closed": "import os; os.closerange(3, 200)",
    "a lie about its length": (
        "import os\nfor fd in range(3, 20):\n    try: os.write(fd, (2**31).to_bytes(4, 'little'))\n    except OSError: pass"
    ),
}
# Acts that spoil the answers of a process that lives on: one sentence each, too.
SPOILING = {
    "monkey-patched torch": (
        "import torch, numpy\n"
        "def broken(*a, **k): raise RuntimeError('patched')\n"
        "torch.cat = torch.from_numpy = torch.Tensor.numpy = broken"
    ),
    "no tensor": "return 'a cat'",
    "logits of another shape": "return self.fc(x.flatten(1))[:, :7]",
    "features of another shape": "self.fc.weight.data = self.fc.weight.data[:, :5]",
    "an error of its own": "raise ValueError('line one\\nline two')",
}

MODEL = """
import torch
from torch import nn

ACTS = {acts!r}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3072, 10)

    def forward(self, x):
        return self.fc(x.flatten(1))

    def load_for_testing(self, project_dir):
        self.said = {{}}
        for name, body in ACTS.items():
            space = {{}}
            exec("def act():\\n" + body, space)
            try:
                word = space["act"]()
                self.said[name] = "got it" if word != "stopped" else "stopped"
            except BaseException as error:
                self.said[name] = f"stopped: {{type(error).__name__}}"
            if name == {deadly!r}:
                continue

    def state_dict(self, *rest, **more):
        state = super().state_dict(*rest, **more)
        got = [name for name, word in self.said.items() if not word.startswith("stopped")]
        state["got"] = torch.tensor(list("\\n".join(got).encode()), dtype=torch.uint8)
        state["asked"] = torch.tensor(len(self.said))
        return state
"""


def model(acts: dict[str, str], outside: str, port: int, deadly: str = "") -> str:
    """The model.py that tries these acts while it is loaded, and says in its weights which of them got what they wanted."""
    bodies = {
        name: textwrap.indent(body.replace("OUTSIDE", outside).replace("PORT", str(port)), "    ")
        for name, body in acts.items()
    }
    return MODEL.format(acts=bodies, deadly=deadly)

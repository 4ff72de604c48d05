#!/usr/bin/env python3
"""Make plain C++ of a preprocessed CUDA source.

usage: translate.py IN.ii OUT.ii

Three things in a CUDA source have no C++ meaning that a macro could give them:
shared memory, which is poisoned where it is declared and, when dynamic, is one buffer for
all; the kernels, which must be found by name; and the fact that each source is a module of
its own, whose names no other module sees. So the source's own text (what comes from system
headers or from the emulator's is left alone) goes into unnamed namespaces, and a table of
its `extern "C" __global__` functions is put at the end. OUT.ii.names lists them.
"""
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MARKER = re.compile(r'^# (\d+) "((?:[^"\\]|\\.)*)"((?: \d)*)\s*$')
ATTRIBUTE = re.compile(r'__attribute__\s*\(\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)\)|alignas\s*\((?:[^()]|\([^()]*\))*\)')
KERNEL = re.compile(r'(?P<c>extern\s*"C"\s*)?(?:static\s+|inline\s+)*__global__\s+(?:__attribute__\s*\(\(.*?\)\)\s*)?void\s+(?P<name>\w+)\s*\(')


def chunks(lines):
    """Runs of lines as (own, [lines]): own text of the source, or a header's."""
    own, run, current = False, [], None
    for line in lines:
        marker = MARKER.match(line)
        # A marker for the file one is in may be flagged as a system header's where a macro
        # of such a header was expanded.
        if marker and marker[2] != current:
            path, flags = marker[2], marker[3].split()
            current = path
            system = path.startswith("<") or "3" in flags or os.path.abspath(path).startswith(HERE + "/include/")
            if own == system:
                yield own, run
                own, run = not system, []
        run.append(line)
    yield own, run


def split_declarators(text):
    """Split at the commas that are in no bracket."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += c in "([{<"
        depth -= c in ")]}>"
        if c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return parts + [text[start:]]


def in_function(text):
    """Whether the end of text lies in a brace that is no namespace's."""
    depth, scopes = 0, []
    for match in re.finditer(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)\'|[{}]', text):
        if match[0] == "{":
            before = text[max(0, match.start() - 80):match.start()]
            scopes.append(not re.search(r'(namespace(\s+\w+)?|extern\s+"C")\s*$', before))
        elif match[0] == "}" and scopes:
            scopes.pop()
    return any(scopes)


def shared_variable(words, local):
    """The C++ for one `__shared__` declaration; words is all of it but that word and the `;`."""
    attributes = " ".join(ATTRIBUTE.findall(words))
    words = ATTRIBUTE.sub(" ", words)
    dynamic = re.search(r"\bextern\b", words)
    words = re.sub(r"\b(extern|static)\b", " ", words)
    first, *others = split_declarators(words)
    # the brackets of an array's size may hold anything but brackets
    match = re.match(r"^\s*(?P<type>.*?)\s*\b(?P<name>\w+)\s*(?P<size>(?:\[[^\[\]]*\]\s*)*)$", first, re.S)
    if not match:
        sys.exit(f"a __shared__ declaration that is not understood: {words!r}")
    kind, out = match["type"], []
    for declarator in [f'{match["name"]}{match["size"]}'] + others:
        name, size = re.match(r"^\s*(\w+)\s*(.*)$", declarator, re.S).groups()
        if dynamic:
            inner = "".join(re.findall(r"\[[^\[\]]*\]", size)[1:])
            target = f"{kind} (*const {name}){inner}" if inner else f"{kind} *const {name}"
            cast = f"{kind} (*){inner}" if inner else f"{kind} *"
            out.append(f"{target} = ({cast})::emulator::dynamic_shared;")
        else:
            out.append(f"{attributes} static {kind} {name}{size};")
            if local:
                out.append("do { static unsigned long emulator_serial; "
                           f"::emulator::enter_shared((void *)&({name}), sizeof({name}), emulator_serial); }} while (0);")
    return " ".join(out)


def translate_shared(text):
    """Replace every `__shared__` declaration, keeping the number of lines."""
    out, done = [], 0
    for match in re.finditer(r"\b__shared__\b", text):
        if match.start() < done:
            continue
        begin = max(text.rfind(c, 0, match.start()) for c in ";{}") + 1
        begin = max(begin, done)
        head = text[begin:match.start()]
        while "#" in head:  # directives between the last statement and this one
            begin += head.index("\n", head.index("#")) + 1
            head = text[begin:match.start()]
        end = text.index(";", match.end())
        words = head + " " + text[match.end():end]
        out.append(text[done:begin])
        out.append("\n" * words.count("\n"))
        out.append(shared_variable(words, in_function(text[:begin])))
        done = end + 1
    return "".join(out) + text[done:]


def main():
    source, target = sys.argv[1:]
    with open(source) as f:
        lines = f.readlines()
    names, out = [], []
    for own, run in chunks(lines):
        text = "".join(run)
        if not own or not "".join(l for l in run if not l.startswith("#")).strip():
            out.append(text)
            continue
        text = re.sub(r"\b__noinline__\b", "__attribute__((noinline))", text)
        block = re.search(r'extern\s*"C"\s*\{', text)
        for kernel in KERNEL.finditer(text):
            if kernel["c"] or (block and block.start() < kernel.start()):
                names.append(kernel["name"])
        text = re.sub(r'extern\s*"C"(\s*)\{', r"namespace\1{", text)
        text = re.sub(r'extern\s*"C"(\s*)(?=(?:static\s+|inline\s+)*__global__)', r"\1", text)
        text = translate_shared(text)
        text = re.sub(r"\b__global__\b", "", text)
        out.append("namespace {\n" + text + "\n}\n")
    names = list(dict.fromkeys(names))
    if names:
        out.append("namespace {\nconst ::emulator::Kernel emulator_kernels[] = {\n")
        out += [f'{{"{n}", ::emulator::Entry<&{n}>::body, ::emulator::Entry<&{n}>::count, ::emulator::Entry<&{n}>::sizes}},\n' for n in names]
        out.append("};\nconst ::emulator::Registration emulator_registration(emulator_kernels);\n}\n")
    with open(target, "w") as f:
        f.write("".join(out))
    with open(target + ".names", "w") as f:
        f.write("".join(n + "\n" for n in names))


main()

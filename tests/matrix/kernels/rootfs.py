# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a guest, one cpio archive each: Python and tools, a kernel's modules, the checkout.

The first is the same for every kernel of an architecture, and is kept until its sources change. Python and tools are
those of this machine, or for another architecture those of Debian packages.
"""

from __future__ import annotations

import hashlib
import importlib.util
import lzma
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile

from architecture import Architecture
from archive import Archive

CHECKOUT = pathlib.Path(__file__).resolve().parents[3]
HERE = pathlib.Path(__file__).resolve().parent
TOOLS = ("ip", "tc", "bridge", "sleep", "nft", "iptables-nft")
APPARMOR = pathlib.Path(os.environ["WORK"]) / "apparmor"  # by tools/debian_programs
APPLETS = ("sh", "mount", "umount", "insmod", "dmesg", "grep", "sed", "uname", "mkdir", "poweroff", "env")
# Beside the standard library; of Ansible only what modules are made of.
LIBRARIES = ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments", "pyroute2", "yaml")
LIBRARIES += ("ansible/module_utils", "ansible/_vendor", "ansible/__init__.py", "ansible/release.py")
UNUSED = {"test", "tests", "idlelib", "tkinter", "ensurepip", "lib2to3", "distutils", "pydoc_data", "turtledemo"}
UNUSED |= {"__pycache__", "site-packages", "dist-packages", "sphinxext"}
NEEDLESS = UNUSED | {"doc", "man", "locale", "bash-completion"}  # of packages
MODULES = ("sch_ingress", "sch_htb", "cls_bpf", "cls_u32", "veth", "dummy", "8021q", "tun", "bridge", "macvlan", "ifb")
MODULES += ("tcp_diag", "udp_diag")
MODULES += ("nf_tables", "nft_chain_nat", "nft_counter", "nft_ct", "nft_redir", "nft_socket")
MODULES += ("nft_compat", "xt_mark", "xt_tcpudp")
MODULES += (
    "vxlan",
    "geneve",
    "ip_gre",
    "ip6_gre",
    "ipip",
    "sit",
    "ip6_tunnel",
    "wireguard",
    "vrf",
    "fou",
    "xfrm_interface",
)
# Of the checkout.
PARTS = ("bpf", "plugins/module_utils", "tests/matrix/kernels/guest")
PARTS += ("tests/kernel", "tests/contract", "tests/fuzz", "tests/support")
PARTS += ("tests/system/apparmor", "tests/system/openziti")
SUFFIXES = (".py", ".c", ".h", ".json")
FILES = ("pytest.ini", "tests/conftest.py", "tests/system/openziti/router.yml", "docs/openziti.md")
# What iproute2 knows protocols by.
PROTOCOLS = b"icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\n"
# Python's threads end through it, and no program links it.
GCC_LIBRARY = "libgcc_s.so.1"


# ---- the base ------------------------------------------------------------------------------------------


def base(cache: pathlib.Path, architecture: Architecture, packages: list) -> pathlib.Path:
    """Return the archive with everything but kernel and checkout.

    `packages` have the programs for a processor that is not that of this machine.
    """
    if architecture.is_own:
        files, links = _base_files(), {"/usr/bin/python3": str(pathlib.Path(sys.executable).resolve())}
    else:
        files, links = _foreign_files(_unpacked(packages, cache / f"userland-{architecture.name}"))
    key = hashlib.sha256(pathlib.Path(__file__).read_bytes() + (HERE / "archive.py").read_bytes())
    for inside, outside in sorted(files.items()):
        about = outside.stat()
        key.update(f"{inside} {about.st_size} {about.st_mtime_ns}\n".encode())
    kept = cache / f"base-{architecture.name}-{key.hexdigest()[:16]}.cpio"
    if not kept.exists():
        _replace(kept, _packed(files, links), f"base-{architecture.name}-*.cpio")
    return kept


def _base_files() -> dict:
    """Return {path in the guest: path here}."""
    interpreter, stdlib = pathlib.Path(sys.executable).resolve(), pathlib.Path(sysconfig.get_path("stdlib"))
    found = {str(interpreter): interpreter, "/bin/busybox": _tool("busybox")}
    found.update({f"/usr/sbin/{tool}": _tool(tool) for tool in TOOLS})
    found["/usr/bin/perl"] = _tool("perl")  # tproxy-splicer begins with it
    found.update(_apparmor())
    for folder in pathlib.Path("/usr/lib").glob("*-linux-gnu/xtables"):  # of iptables-nft
        found.update(_tree(folder, str(folder), (".so",)))
    found.update(_tree(stdlib, str(stdlib), (".py", ".so")))
    found.update(_shared_libraries([path for path in found.values() if path.suffix != ".py"]))
    for name in LIBRARIES:
        found.update(_library(name))
    return found


def _unpacked(packages: list, folder: pathlib.Path) -> pathlib.Path:
    """Return the folder with the files of the packages."""
    stamp = folder / "packages"
    names = "".join(f"{package.name}\n" for package in packages)
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != names:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for package in packages:
            subprocess.run(["dpkg-deb", "--extract", str(package), str(folder / "root")], check=True)
        stamp.write_text(names, encoding="utf-8")
    return folder / "root"


def _foreign_files(top: pathlib.Path) -> tuple:
    """Return ({path in the guest: path here}, {link in the guest: its target}) of unpacked packages and LIBRARIES."""
    files, links = {}, {"/usr/bin/python3": next(top.glob("usr/bin/python3.*")).name}
    for path in sorted(top.rglob("*")):
        inside = path.relative_to(top)
        if NEEDLESS & set(inside.parts):
            continue
        if path.is_symlink():
            links[f"/{inside}"] = os.readlink(path)
        elif path.is_file():
            files[f"/{inside}"] = path
    for tool in TOOLS:  # the PATH of the guest has no /sbin
        links.update({f"/usr/sbin/{tool}": f"/sbin/{tool}"} if f"/sbin/{tool}" in files else {})
    links["/bin/sleep"] = "busybox"
    for name in LIBRARIES:
        files.update(_library(name))
    return files, links


def _apparmor() -> dict:
    """Return the parser of AppArmor and its abstractions: of this machine, as unpacked, or none without a mirror."""
    top = pathlib.Path("/") if shutil.which("apparmor_parser") else APPARMOR
    parsers = [path for path in (top / "usr/sbin/apparmor_parser", top / "sbin/apparmor_parser") if path.exists()]
    folders = ("etc/apparmor", "etc/apparmor.d", "usr/share/apparmor-features")  # what Debian has the kernel check, too
    about = [path for folder in folders for path in (top / folder).rglob("*") if path.is_file()]
    return {f"/{path.relative_to(top)}": path for path in about} | {f"/usr/sbin/{each.name}": each for each in parsers}


def _tree(top: pathlib.Path, inside: str, suffixes: tuple) -> dict:
    return {
        f"{inside}/{path.relative_to(top)}": path
        for path in top.rglob("*")
        if path.suffix in suffixes and path.is_file() and not UNUSED & set(path.relative_to(top).parts)
    }


def _library(name: str) -> dict:
    """Return a package of this interpreter, or a part of one, with its metadata: some packages look for their own."""
    package, _slash, part = name.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise FileNotFoundError(f"the guest needs {package}, which this Python has not")
    if not spec.submodule_search_locations:
        return {f"/site/{name}.py": pathlib.Path(spec.origin)}
    folder = pathlib.Path(spec.origin).parent
    if part.endswith(".py"):
        return {f"/site/{name}": folder / part}
    found = _tree(folder / part, f"/site/{name}", (".py",))
    for about in folder.parent.glob(f"{package}-*-info"):
        found.update(_tree(about, f"/site/{about.name}", ("", ".txt")))
    return found


def _shared_libraries(programs: list) -> dict:
    """Return the files that the dynamic linker loads for these files."""
    told = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    found = {name: pathlib.Path(name) for name in re.findall(r"(/\S+) \(0x", told)}
    folder = next(pathlib.Path(name).parent for name in found if "/libc.so" in name)
    return {**found, str(folder / GCC_LIBRARY): folder / GCC_LIBRARY}


def _tool(name: str) -> pathlib.Path:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"the guest needs {name}, which this machine has not")
    return pathlib.Path(found).resolve()


def _packed(files: dict, links: dict) -> bytes:
    archive = Archive()
    for folder in ("/proc", "/sys", "/dev", "/run", "/tmp"):
        archive.folder(folder)
    for folder in ("home", "multiarch", "xdg-user-dirs"):  # empty, and the parser of AppArmor opens them
        archive.folder(f"/etc/apparmor.d/tunables/{folder}.d")
    for inside, outside in sorted(files.items()):
        archive.add(inside, outside.read_bytes(), 0o755 if outside.suffix != ".py" else 0o644)
    applets = {f"/bin/{applet}": "busybox" for applet in APPLETS}
    for inside, target in sorted({**links, **applets}.items()):
        archive.link(inside, target)
    archive.add("/etc/protocols", PROTOCOLS)
    archive.link("/usr/lib/python3/dist-packages", "/site")  # tproxy-splicer runs Python without PYTHONPATH
    return archive.closed()


def _replace(kept: pathlib.Path, data: bytes, older: str) -> None:
    for old in kept.parent.glob(older):
        old.unlink()
    aside = kept.with_suffix(".new")
    aside.write_bytes(data)
    aside.rename(kept)


# ---- the kernel ------------------------------------------------------------------------------------------


def kernel(packages: list, architecture: Architecture) -> tuple:
    """Return (kernel image, archive of the modules in the order of their loading) of a kernel's packages."""
    image, modules = b"", {}
    for package in packages:
        for path, data in _members(package, architecture):
            if path.name.startswith("vmlinuz"):
                image = data
            else:
                modules[path.name.partition(".")[0]] = lzma.decompress(data) if path.suffix == ".xz" else data
    archive = Archive()
    for number, name in enumerate(_in_order(modules)):
        archive.add(f"/modules/{number:02}-{name}.ko", modules[name])
    return image, archive.closed()


def _members(package: pathlib.Path, architecture: Architecture):
    """Yield (path, contents) of image and network modules."""
    wanted = re.compile(rf".*/(vmlinuz[^/]*|kernel/(net|drivers/net|crypto|lib|arch/{architecture.crypto}/crypto)/.*)$")
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as members,
    ):
        for member in members:
            if member.isfile() and wanted.match(member.name):
                yield pathlib.PurePosixPath(member.name), members.extractfile(member).read()


def _in_order(modules: dict) -> list:
    """Return the kernel modules that MODULES need, each after its dependencies.

    A name without a file is built in or absent.
    """
    found = []

    def add(name: str) -> None:
        if name in modules and name not in found:
            for needed in re.search(rb"\0depends=([^\0]*)\0", modules[name])[1].decode().split(","):
                add(needed)
            found.append(name)

    for name in MODULES:
        add(name)
    return found


# ---- what the caller adds ------------------------------------------------------------------------------


def added(inside: str, path: pathlib.Path) -> bytes:
    """Return the archive of a folder, or of a program and its shared libraries. `inside` is its path in the guest."""
    archive = Archive()
    if path.is_dir():
        files = {f"{inside}/{each.relative_to(path)}": each for each in sorted(path.rglob("*")) if each.is_file()}
    else:
        is_dynamic = subprocess.run(["ldd", str(path)], capture_output=True, check=False).returncode == 0
        files = {inside: path, **(_shared_libraries([path]) if is_dynamic else {})}
    for name, outside in files.items():
        archive.add(name, outside.read_bytes(), 0o755)
    return archive.closed()


# ---- the checkout ----------------------------------------------------------------------------------------


def checkout(blob: str, tests: list) -> bytes:
    """Return the archive of the tests, the tested code and its starter. `tests` are the tests that run."""
    archive = Archive()
    archive.add("/init", (HERE / "guest" / "init").read_bytes(), 0o755)
    archive.add("/tproxy/blob.json", blob.encode())
    archive.add("/tproxy/selection", "\n".join(tests).encode())
    paths = [CHECKOUT / name for name in FILES]
    for folder in PARTS:
        paths += [path for path in sorted((CHECKOUT / folder).rglob("*")) if path.suffix in SUFFIXES and path.is_file()]
    for path in paths:
        archive.add(f"/tproxy/{path.relative_to(CHECKOUT)}", path.read_bytes())
    return archive.closed()

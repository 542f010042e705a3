# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""IP protocols by name and number, as rules and questions name them.

The names are those of IANA's registry "Assigned Internet Protocol Numbers", in small letters. The table is here because
socket.getprotobyname() reads /etc/protocols: small systems lack that file, its names differ between distributions, and
controller and router must read an option alike.

1. TCP and UDP have ports. All other protocols that a rule can name share one table of an image (PORTLESS).
2. ICMP has a row of its own in the packet table, and the program steps over the extension headers of IPv6. No rule can
   name these.
3. `ipip` is protocol 4, as Linux tunnels of mode ipip send it. The registry has that name at 94, too.
"""

from __future__ import annotations

from ..errors import InvalidInput

PROTOCOLS = {"tcp": 6, "udp": 17}  # with ports
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
PORTLESS = "portless"
TABLES = (*PROTOCOLS, PORTLESS)
PROTOCOL_MAX = 255
ALLOWED = f"give tcp, udp or another IP protocol, by its IANA name or its number, 0 to {PROTOCOL_MAX}"

# The names by number, from 0 on; "-" where the registry has no keyword.
_REGISTRY = (
    "hopopt icmp igmp ggp ipip st tcp cbt egp igp bbn-rcc-mon nvp-ii pup argus emcon xnet chaos udp mux dcn-meas",
    "hmp prm xns-idp trunk-1 trunk-2 leaf-1 leaf-2 rdp irtp iso-tp4 netblt mfe-nsp merit-inp dccp 3pc idpr xtp",
    "ddp idpr-cmtp tp++ il ipv6 sdrp ipv6-route ipv6-frag idrp rsvp gre dsr bna esp ah i-nlsp swipe narp min-ipv4",
    "tlsp skip ipv6-icmp ipv6-nonxt ipv6-opts - cftp - sat-expak kryptolan rvd ippc - sat-mon visa ipcv cpnx cphb",
    "wsn pvp br-sat-mon sun-nd wb-mon wb-expak iso-ip vmtp secure-vmtp vines iptm nsfnet-igp dgp tcf eigrp ospf",
    "sprite-rpc larp mtp ax.25 - micp scc-sp etherip encap - gmtp ifmp pnni pim aris scps qnx a/n ipcomp snp",
    "compaq-peer ipx-in-ip vrrp pgm - l2tp ddx iatp stp srp uti smp sm ptp isis fire crtp crudp sscopmce iplt sps",
    "pipe sctp fc rsvp-e2e-ignore mobility-header udplite mpls-in-ip manet hip shim6 wesp rohc ethernet aggfrag",
    "nsh homa",
)
_NAMES = {number: name for number, name in enumerate(" ".join(_REGISTRY).split()) if name != "-"}
_NUMBERS = {name: number for number, name in _NAMES.items()}
# Other names of the registry, of /etc/protocols and of tools.
_ALIASES = {"ipv4": 4, "ipencap": 4, "ospfigp": 89, "icmpv6": 58, "mobile": 55, "ttp": 84}

_ICMP = (1, 58)
_EXTENSION_HEADERS = (0, 43, 44, 60)


def protocol_name(number: int) -> str:
    """Return the canonical name of a protocol: its name in the registry, else its number."""
    return _NAMES.get(number, str(number))


def protocol_number(name: str) -> int:
    """Return the number of a protocol, given its canonical name."""
    return _NUMBERS[name] if name in _NUMBERS else int(name)


def has_ports(protocol: str) -> bool:
    """Return whether a protocol has ports. The argument is its canonical name."""
    return protocol in PROTOCOLS


def table_of(protocol: str) -> str:
    """Return the table of an image that has the rules of a protocol, one of TABLES."""
    return protocol if protocol in PROTOCOLS else PORTLESS


def parse_protocol(value: object) -> str:
    """Return the canonical name of a protocol that a rule can name, given name or number. Raise InvalidInput."""
    if value is None:
        raise InvalidInput([f"missing; {ALLOWED}"])
    text = "" if isinstance(value, bool) else str(value).strip().lower()
    number = _ALIASES.get(text, _NUMBERS.get(text))
    if number is None and text.isascii() and text.isdigit() and int(text) <= PROTOCOL_MAX:
        number = int(text)
    if number is None:
        raise InvalidInput([f"{value!r} is no IP protocol; {ALLOWED}"])
    if number in _ICMP:
        raise InvalidInput([f"{value!r} has a row of its own in the packet table; use `allow_echo` of the policy"])
    if number in _EXTENSION_HEADERS:
        raise InvalidInput([f"{value!r} is an extension header of IPv6; give the protocol behind it"])
    return protocol_name(number)

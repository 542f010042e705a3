# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of one line in the program. The fuzzer must see all of them. Each line occurs once in its file."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One line of a file, its replacement, and the fault that the replacement makes."""

    file: str
    old: str
    new: str
    breaks: str


ABI, PROGRAM = "bpf/abi.h", "bpf/tproxy_splicer.c"
LIB = "bpf/lib/"
CTX, ICMP, IPV4, IPV6 = LIB + "ctx.h", LIB + "icmp.h", LIB + "ipv4.h", LIB + "ipv6.h"
PARSE, PROTOCOL = LIB + "parse.h", LIB + "protocol.h"
PACKET, POLICY, RULESET = LIB + "packet.h", LIB + "policy.h", LIB + "ruleset.h"
SOCKET, TRIE, VLAN, ADDR = LIB + "socket.h", LIB + "trie.h", LIB + "vlan.h", LIB + "addr.h"
TRACKER, SESSION, STATS = "bpf/tproxy_tracker.c", LIB + "session.h", LIB + "stats.h"

MUTANTS = (
    Mutant(
        IPV4,
        "if (ip->version != 4 || header_length < sizeof(*ip))",
        "if (ip->version != 4)",
        "IPv4 headers of less than 20 bytes",
    ),
    Mutant(PROGRAM, "return !!addr_kind(&flow->saddr) & !asks_group &", "return 0 &", "martian sources"),
    Mutant(PROGRAM, "!asks_group &", "1 &", "hosts without an address that ask a group"),
    Mutant(IPV4, "is_zero(option.type ^ IPV4_OPTION_SSRR);", "0;", "strict source routes"),
    Mutant(IPV4, "option.length = 1;", "option.length = 2;", "the byte behind an option of one byte"),
    Mutant(IPV4, "found |= option.length < sizeof(option);", ";", "options shorter than their head"),
    Mutant(IPV4, "return found | (at != flow->l4_off);", "return found;", "options beyond the header"),
    Mutant(IPV6, "if (!ip || ip->version != 6)", "if (!ip)", "IPv6 of another version"),
    Mutant(
        IPV4,
        "if (length < header_length || offset + length > skb->len)",
        "if (length < header_length)",
        "IPv4 lengths beyond the frame",
    ),
    Mutant(
        IPV6, "if (flow->l3_end > skb->len)", "if (flow->l3_end < skb->len - 2000)", "IPv6 lengths beyond the frame"
    ),
    Mutant(PACKET, "if (offset + length > flow->l3_end)", "if (offset + length > skb->len)", "ports in the padding"),
    Mutant(
        PROTOCOL,
        "protocol == IPPROTO_FRAGMENT || protocol == IPPROTO_DSTOPTS;",
        "protocol == IPPROTO_FRAGMENT || protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_AH;",
        "AH counts as an extension header",
    ),
    Mutant(
        PROTOCOL,
        "1ULL << IPPROTO_ROUTING | 1ULL << IPPROTO_FRAGMENT |",
        "0 |",
        "fragments of an extension header",
    ),
    Mutant(
        PARSE,
        "if (is_portless(flow->protocol)) {",
        "if (kind == PKT_OTHER && is_portless(flow->protocol)) {",
        "fragments of protocols without ports",
    ),
    Mutant(PARSE, "flow->dport = flow->protocol;", "", "rules for protocols without ports"),
    Mutant(
        ICMP,
        "flow->dport = flow->protocol;",
        "",
        "errors about protocols without ports",
    ),
    Mutant(
        RULESET,
        "return protocol == IPPROTO_UDP ? GROUP_IPV4_UDP : GROUP_IPV4_PORTLESS;",
        "return GROUP_IPV4_UDP;",
        "protocols without ports in the root of UDP",
    ),
    Mutant(
        PROGRAM,
        "if (ctx->kind == PKT_PORTLESS)",
        "if (0)",
        "the reason of a protocol that no rule matches",
    ),
    Mutant(IPV6, "EXT_HDRS_MAX = 8, ", "EXT_HDRS_MAX = 7, ", "eight extension headers"),
    Mutant(
        IPV6,
        "if (addr_is_v4mapped(&flow->saddr) || addr_is_v4mapped(&flow->daddr))",
        "if (addr_is_v4mapped(&flow->daddr))",
        "IPv4 sources in IPv6 headers",
    ),
    Mutant(
        IPV6,
        "return flow->l4_off <= flow->l3_end && flow->l4_off < L4_OFF_END;",
        "return flow->l4_off < L4_OFF_END;",
        "extension headers in the padding",
    ),
    Mutant(
        PACKET,
        "return offset + length <= flow->l3_end && !bpf_skb_load_bytes(skb, offset, to, length);",
        "return !bpf_skb_load_bytes(skb, offset, to, length);",
        "quotes in the padding",
    ),
    Mutant(ICMP, "ND_HOP_LIMIT = 255,", "ND_HOP_LIMIT = 254,", "hop limit of neighbour discovery"),
    Mutant(
        ICMP,
        "(addr_is_link_local(&flow->saddr) || addr_is_any(&flow->saddr));",
        "addr_is_link_local(&flow->saddr);",
        "listener discovery from an unspecified address",
    ),
    Mutant(ADDR, "(addr->addr8[1] & 0xc0) == 0x80", "(addr->addr8[1] & 0x80) == 0x80", "fec0::/10 is link-local"),
    Mutant(
        ICMP,
        "ip.saddr != flow->daddr.addr32[3])",
        "0)",
        "errors to other hosts",
    ),
    Mutant(
        ICMP,
        "flow->dport = bpf_ntohs(ports[0]);",
        "flow->dport = bpf_ntohs(ports[1]);",
        "quoted ports, not exchanged",
    ),
    Mutant(ICMP, "IGMP_TTL = 1,", "IGMP_TTL = 2,", "TTL of IGMP"),
    Mutant(ICMP, "IGMP_V3_REPORT = 0x22,", "IGMP_V3_REPORT = 0x13,", "types of IGMP"),
    Mutant(
        PROGRAM,
        "if (is_own_address(&flow->daddr) || is_session(skb, ctx, flow))",
        "if (1)",
        "errors about echo requests of other hosts",
    ),
    Mutant(
        PROGRAM, "return verdict_pass(ctx, REASON_LINK);", "return default_action(ctx, REASON_LINK);", "link protocols"
    ),
    Mutant(ICMP, "ICMP_HLEN = 8,", "ICMP_HLEN = 4,", "size of an ICMP header"),
    Mutant(TRIE, "i += key_le(page, base, i + 2, x) * 2;", "i += key_le(page, base, i + 2, x);", "search in a node"),
    Mutant(TRIE, "(tag == NODE_HIGH ? x >> 8 : x)", "(tag == NODE_HIGH ? x : x)", "pages by the upper byte"),
    Mutant(TRIE, "values = base + (8ULL << width);", "values = base + (4ULL << width);", "where a node's values are"),
    Mutant(ABI, "LOOKUP6_STEPS = 64,", "LOOKUP6_STEPS = 16,", "long lookups"),
    Mutant(TRIE, "if (number & FIELD6_DPORT)", "if (number == FIELD6_SADDR)", "ports of IPv6 rules"),
    Mutant(
        RULESET,
        "__u64 second = cover ? daddr >> 16 : flow->dport;",
        "__u64 second = cover ? daddr >> 16 : flow->sport;",
        "ports of IPv4 rules",
    ),
    Mutant(
        RULESET,
        "return image_page(image, groups->word[pair + 1]);",
        "return head;",
        "rules that name interfaces",
    ),
    Mutant(
        RULESET,
        "pair = (((place >> GROUP_PAIR_SHIFT) + i) & (PAIRS_PER_PAGE - 1)) * 2;",
        "pair = (((place >> GROUP_PAIR_SHIFT) + i + 1) & (PAIRS_PER_PAGE - 1)) * 2;",
        "interfaces in the first pair of their place",
    ),
    Mutant(
        POLICY,
        "slot = displaced_slot(TABLE_POLICY, ifindex);",
        "slot = 1;",
        "interfaces with the same home slot in the policy table",
    ),
    Mutant(POLICY, "bpf_ktime_get_ns() > policy->deadline;", "bpf_ktime_get_ns() < policy->deadline;", "the deadline"),
    Mutant(
        POLICY,
        "policy = policy_at(slot + INTERFACES, ifindex);",
        "policy = policy_at(slot, ifindex);",
        "the policy past the deadline",
    ),
    Mutant(
        RULESET,
        "__u32 generation = policy ? policy->generation : 0;",
        "__u32 generation = 0;",
        "the image past the deadline",
    ),
    Mutant(POLICY, "(flow->ipv6 | is_zero(beyond_mapping >> 63));", "1;", "IPv6 management prefixes and IPv4"),
    Mutant(ADDR, "shift_right(low, 64 - (beyond & ~is_short))", "0", "management prefixes beyond 64 bits"),
    Mutant(ADDR, "shift_right(high, -(beyond & is_short))", "high", "management prefixes below 64 bits"),
    Mutant(
        ADDR,
        "return value >> bits / 2 >> (bits - bits / 2);",
        "return value >> (bits & 63);",
        "management prefixes of 0 and 64 bits",
    ),
    Mutant(POLICY, "matches |= management_matches", "matches = management_matches", "all management entries but one"),
    Mutant(
        POLICY,
        "(entry->protocol ^ flow->protocol) |",
        "(0) |",
        "the protocol of management entries",
    ),
    Mutant(
        PROGRAM,
        "	case PKT_PORTLESS:\n		forget_kind(skb, ctx, flow);\n",
        "		forget_kind(skb, ctx, flow);\n",
        "management of protocols without ports",
    ),
    Mutant(
        POLICY,
        "return flow->sport == DHCPV6_SERVER_PORT && flow->dport == DHCPV6_CLIENT_PORT &&",
        "return (flow->sport == DHCPV6_SERVER_PORT && flow->dport == DHCPV6_CLIENT_PORT) ||",
        "DHCPv6 from anywhere",
    ),
    Mutant(
        POLICY,
        "return asked & SERVICE_SSH && is_own(kind) ?",
        "return asked & SERVICE_SSH ?",
        "SSH to hosts behind the router",
    ),
    Mutant(
        POLICY,
        "if (asked & SERVICE_MANAGEMENT && is_for_host(kind))",
        "if (asked & SERVICE_MANAGEMENT)",
        "management of hosts behind the router",
    ),
    Mutant(
        POLICY,
        "if (asked & SERVICE_DHCP && !flow->ipv6 && !flow->fragment)",
        "if (asked & SERVICE_DHCP && !flow->fragment)",
        "DHCPv6 to hosts behind the router",
    ),
    Mutant(
        POLICY,
        "return addr_is_link_local(&flow->daddr) || is_for_host(lookup_kind(&flow->daddr));",
        "return true;",
        "ICMP to hosts behind the router",
    ),
    Mutant(
        POLICY,
        "return addr_is_link_local(&flow->daddr) || is_for_host(lookup_kind(&flow->daddr));",
        "return is_for_host(lookup_kind(&flow->daddr));",
        "neighbour discovery to link-local addresses",
    ),
    Mutant(
        POLICY,
        "return (kind & (ADDRESS_OWN | ADDRESS_GROUP)) == ADDRESS_OWN;",
        "return kind & (ADDRESS_OWN | ADDRESS_GROUP);",
        "SSH to groups",
    ),
    Mutant(ADDR, "is_zero(high | low >> 1);", "is_zero(high | low >> 2);", "the first special IPv6 addresses"),
    Mutant(ADDR, "is_zero(ipv4 >> 28 ^ 0xe)", "is_zero(ipv4 >> 28 ^ 0xf)", "IPv4 multicast"),
    Mutant(ADDR, "is_zero(high >> 56 ^ 0xff);", "0;", "IPv6 multicast"),
    Mutant(ADDR, "is_zero(ipv4 ^ 0xffffffff)", "0", "the limited broadcast address"),
    Mutant(ADDR, "is_zero(ipv4 >> 24 ^ 127)", "is_zero(ipv4 >> 24 ^ 126)", "IPv4 loopback addresses"),
    Mutant(
        SOCKET,
        "session = sk->state == BPF_TCP_LISTEN ? SESSION_UNCONNECTED : SESSION_LOCAL;",
        "session = sk->state == BPF_TCP_ESTABLISHED ? SESSION_LOCAL : SESSION_UNCONNECTED;",
        "sessions in TIME_WAIT",
    ),
    Mutant(
        SOCKET,
        "session = sk->dst_port ? SESSION_LOCAL : SESSION_UNCONNECTED;",
        "session = SESSION_UNCONNECTED;",
        "connected UDP",
    ),
    Mutant(SOCKET, "tuple->ipv6.sport = bpf_htons(flow->sport);", "tuple->ipv6.sport = 0;", "sessions of IPv6"),
    Mutant(
        SOCKET, "for (i = 0; i < 2; i++) {", "for (i = 0; i < 1; i++) {", "the proxy's own clients hide its listener"
    ),
    Mutant(PROGRAM, "	if (is_own(kind))\n", "	if (0)\n", "own addresses"),
    Mutant(
        PROGRAM,
        "if (!(action->flags & (ACTION_ONE_ADDRESS | ACTION_SPECIAL_RANGE)))",
        "if (!(action->flags & ACTION_SPECIAL_RANGE))",
        "rules for one own address",
    ),
    Mutant(
        PROGRAM,
        "if (!(action->flags & (ACTION_ONE_ADDRESS | ACTION_SPECIAL_RANGE)))",
        "if (!(action->flags & ACTION_ONE_ADDRESS))",
        "rules within a special range",
    ),
    Mutant(
        PROGRAM, "ACTION_SPARES_RESERVED && is_reserved", "ACTION_PASS_WHEN_MISSING && is_reserved", "reserved ports"
    ),
    Mutant(PROGRAM, "ACTION_SPARES_RESERVED && is_reserved(flow)", "ACTION_SPARES_RESERVED", "ports not reserved"),
    Mutant(
        POLICY,
        "flow->protocol == IPPROTO_TCP ? ports->tcp : ports->udp",
        "flow->protocol == IPPROTO_TCP ? ports->udp : ports->tcp",
        "reserved ports of each protocol",
    ),
    Mutant(POLICY, ">> (flow->dport & 7) & 1", ">> (flow->dport & 3) & 1", "the bit of a reserved port"),
    Mutant(
        PROGRAM,
        "return default_action(ctx, REASON_UNDELIVERABLE);",
        "return verdict_pass(ctx, REASON_UNDELIVERABLE);",
        "the default action of packets to groups",
    ),
    Mutant(
        PROGRAM,
        "if (reason == REASON_NO_LISTENER && ctx->action->flags & ACTION_PASS_WHEN_MISSING)",
        "if (reason == REASON_NO_LISTENER)",
        "on_missing",
    ),
    Mutant(
        LIB + "ctx.h",
        "return ctx->action && ctx->action->kind == ACTION_TPROXY;",
        "return ctx->action && ctx->action->kind != ACTION_DROP;",
        "rules that pass count as intercepts",
    ),
    Mutant(
        PROGRAM,
        "if (session && flow->protocol == IPPROTO_UDP)",
        "if (session)",
        "errors about a TCP listener",
    ),
    Mutant(
        PROGRAM,
        "if (session == SESSION_LOCAL || is_intercept(ctx))",
        "if (is_intercept(ctx))",
        "errors about own sessions",
    ),
    Mutant(
        PROGRAM,
        "if (ctx->action && ctx->action->kind == ACTION_PASS)",
        "if (0)",
        "errors about flows that a rule passes",
    ),
    Mutant(
        PROGRAM,
        "return accept_local(skb, ctx, REASON_ESTABLISHED);",
        "return is_intercept(ctx) ? accept_local(skb, ctx, REASON_ESTABLISHED) :"
        " verdict_pass(ctx, REASON_ESTABLISHED);",
        "the mark of sessions without a rule",
    ),
    Mutant(
        CTX,
        "skb->mark = (skb->mark & ~mask) | (mark & mask);",
        "skb->mark = skb->mark | (mark & mask);",
        "bits of the mark",
    ),
    Mutant(CTX, "if (!ctx->marked && skb->mark & mask", "if (skb->mark & mask", "the mark of the program itself"),
    Mutant(CTX, "		skb->mark &= ~mask;", "		skb->mark = 0;", "bits of a mark outside the mask"),
    Mutant(
        VLAN, "return skb->vlan_present && skb->vlan_tci & VLAN_VID_MASK;", "return skb->vlan_present;", "priority tags"
    ),
    Mutant(
        PROGRAM,
        "ctx->kind = parse_packet(skb, network_offset(ctx), flow);",
        "ctx->kind = parse_packet(skb, ETH_HLEN, flow);",
        "devices without Ethernet",
    ),
    Mutant(
        PROGRAM,
        "if (ctx->kind == PKT_ECHO && !(ctx->flags & POLICY_ALLOW_ECHO))",
        "if (0)",
        "echo that is not allowed",
    ),
    Mutant(
        POLICY,
        "if (ctx->policy && is_management(ctx->policy, flow))",
        "if (0)",
        "management",
    ),
    Mutant(
        PROGRAM,
        "enum verdict verdict = ctx->flags & POLICY_LOOPBACK ? VERDICT_PASS : ctx->verdict;",
        "enum verdict verdict = ctx->verdict;",
        "loopback",
    ),
    Mutant(
        CTX,
        "ctx->verdict = ctx->flags & POLICY_AUDIT ? VERDICT_WOULD_DROP : VERDICT_DROP;",
        "ctx->verdict = VERDICT_DROP;",
        "an audited default action",
    ),
    Mutant(
        RULESET,
        "actions = image_page(image, head->word[HEADER_ACTIONS] + ctx->rule / ACTIONS_PER_PAGE);",
        "actions = image_page(image, head->word[HEADER_ACTIONS]);",
        "actions of rule slots beyond the first page",
    ),
    Mutant(
        PROGRAM,
        "count_hit(ctx->rule, skb->len);",
        "count_hit(ctx->rule, 1);",
        "bytes of a rule",
    ),
    Mutant(
        STATS,
        "entry = bpf_get_smp_processor_id() * (__u32)counter->packets + rule;",
        "entry = bpf_get_smp_processor_id() + rule;",
        "a CPU counts for the rules of others",
    ),
    Mutant(
        PROGRAM,
        "return is_for_host(lookup_kind(&flow->daddr));",
        "return true;",
        "a connected socket hides the listener that a rule names",
    ),
    Mutant(
        PROGRAM,
        "return is_for_host(lookup_kind(&flow->daddr));",
        "return false;",
        "a rule with a listener takes sessions of own addresses",
    ),
    Mutant(CTX, "return !skb->ingress_ifindex;", "return true;", "received packets are taken for test runs"),
    Mutant(PROGRAM, "	if (!is_test_run(skb))\n		count", "		count", "test runs count for a rule"),
    Mutant(
        TRACKER,
        "return flow->protocol != IPPROTO_TCP && is_own_address(&flow->saddr);",
        "return is_own_address(&flow->saddr);",
        "sessions by TCP of this host",
    ),
    Mutant(
        TRACKER,
        "return flow->protocol != IPPROTO_TCP && is_own_address(&flow->saddr);",
        "return flow->protocol != IPPROTO_TCP;",
        "sessions by packets with a foreign source",
    ),
    Mutant(TRACKER, "return ctx->flags & POLICY_TRACK_ALL;", "return true;", "forwarded flows with track: own"),
    Mutant(TRACKER, "if (live_flow(map, &key) || !can_begin", "if (!can_begin", "answers begin flows"),
    Mutant(TRACKER, "if (live_flow(map, &key) || !can_begin(skb, flow))", "if (live_flow(map, &key))", "a FIN begins"),
    Mutant(TRACKER, "state = live_flow(MAP(flows_outside), &key);", "state = NULL;", "flows that began outside"),
    Mutant(
        SESSION, "if (!state && ctx->flags & POLICY_TRACK_ALL)", "if (!state)", "forwarded sessions with track: own"
    ),
    Mutant(SESSION, "if (!(ctx->flags & POLICY_TRACK))", "if (0)", "sessions with track: none"),
    Mutant(
        SESSION,
        "return flow->protocol == IPPROTO_UDP && is_own_address(&flow->daddr);",
        "return false;",
        "answers of the router's servers keep clients in",
    ),
    Mutant(
        PROGRAM,
        "if (!ctx->action && is_session(skb, ctx, flow))",
        "if (is_session(skb, ctx, flow))",
        "errors about sessions that a drop rule matches",
    ),
    Mutant(
        PROGRAM,
        "if (is_own_address(&flow->daddr) || is_session(skb, ctx, flow))",
        "if (is_session(skb, ctx, flow))",
        "errors about echo requests of this host",
    ),
    Mutant(
        ICMP, "flow->dport = bpf_ntohs(quoted.identifier);", "flow->dport = 0;", "the identifier of a quoted request"
    ),
    Mutant(
        ICMP,
        "return flow->protocol == IPPROTO_ICMP && type == ICMP_ECHO;",
        "return flow->protocol == IPPROTO_ICMP;",
        "quotes of other ICMP messages",
    ),
)

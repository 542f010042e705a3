# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of one line in what the program does with fragments. The fuzzer must see all of them.

That a test run is not remembered is no such fault: the fuzzer asks each packet in both ways. `test_fragments.py` of the
kernel tests has it.
"""

from __future__ import annotations

from of_the_program import ICMP, IPV4, IPV6, LIB, PACKET, POLICY, PROGRAM, RULESET, Mutant

FRAGMENTS = LIB + "fragments.h"
UNSPLICED = (
    "if (flow->fragment && reason != REASON_NO_LISTENER &&\n"
    "	    !(reason == REASON_SPLICED && stack_finds_listener(skb, ctx, flow)))"
)

MUTANTS = (
    Mutant(IPV4, "bpf_htons(IP_MF | IP_OFFSET)", "bpf_htons(IP_OFFSET)", "first IPv4 fragments count as whole"),
    Mutant(IPV6, "bpf_htons(IP6_MF | IP6_OFFSET)", "bpf_htons(IP6_OFFSET)", "first IPv6 fragments count as whole"),
    Mutant(IPV6, "		if (flow->fragment)\n", "		if (0)\n", "a second fragment header"),
    Mutant(PACKET, "	if (!flow->fragment)\n", "	if (1)\n", "first fragments without their header are malformed"),
    Mutant(
        PACKET,
        "	flow->fragment = FRAGMENT_NONE;\n	return PKT_FRAGMENT;",
        "	return PKT_FRAGMENT;",
        "first fragments without their header are remembered",
    ),
    Mutant(
        FRAGMENTS,
        "	if (flow->fragment != FRAGMENT_LATER)\n		return false;\n",
        "",
        "first fragments without their header follow another one",
    ),
    Mutant(
        ICMP, "	if (flow->fragment)\n		return PKT_OTHER;\n	switch", "	switch", "ICMP errors in fragments"
    ),
    Mutant(
        ICMP,
        "	if (flow->fragment)\n		return PKT_OTHER;\n	/* Between",
        "	/* Between",
        "neighbour discovery in fragments",
    ),
    Mutant(
        ICMP,
        "	flow->fragment = FRAGMENT_NONE; /* the quoted packet can be a first one */\n",
        "",
        "quoted first fragments are remembered",
    ),
    Mutant(
        POLICY,
        "if (asked & SERVICE_DHCP && !flow->ipv6 && !flow->fragment)",
        "if (asked & SERVICE_DHCP && !flow->ipv6)",
        "DHCP in fragments to hosts behind the router",
    ),
    Mutant(
        PROGRAM,
        UNSPLICED,
        "if (0)",
        "fragments are spliced",
    ),
    Mutant(
        PROGRAM,
        UNSPLICED,
        "if (flow->fragment)",
        "fragments to a proxy that does not listen",
    ),
    Mutant(PROGRAM, "		ctx->rule = 0;\n", "", "the rule of later fragments"),
    Mutant(
        PROGRAM,
        "	if (ctx->action)\n		return verdict_drop(ctx, REASON_FRAGMENT);",
        "	if (is_intercept(ctx))\n		return verdict_drop(ctx, REASON_FRAGMENT);",
        "fragments of datagrams that a rule can drop",
    ),
    Mutant(
        RULESET,
        "if (protocol == GROUP_IPV4_PORTLESS)",
        "if (0)",
        "covers of ICMP",
    ),
    Mutant(
        RULESET,
        "return (flow->ipv6 ? GROUP_IPV6_TCP_COVER : GROUP_IPV4_TCP_COVER) + protocol;",
        "return flow->ipv6 ? GROUP_IPV6_TCP_COVER : GROUP_IPV4_TCP_COVER;",
        "covers of UDP",
    ),
    Mutant(
        RULESET,
        "__u64 second = cover ? daddr >> 16 : flow->dport;",
        "__u64 second = cover ? daddr & 0xffff : flow->dport;",
        "cover lookups of IPv4",
    ),
    Mutant(
        RULESET,
        "if (ctx->kind != PKT_FRAGMENT)",
        "if (ctx->kind != PKT_TAGGED)",
        "fragments to a covered destination",
    ),
    Mutant(
        FRAGMENTS,
        "if (other && (other->verdict == VERDICT_DROP || state.verdict == VERDICT_PASS))",
        "if (0)",
        "the last of two first fragments decides",
    ),
    Mutant(
        FRAGMENTS,
        "if (other && (other->verdict == VERDICT_DROP || state.verdict == VERDICT_PASS))",
        "if (other)",
        "the first of two first fragments decides",
    ),
    Mutant(FRAGMENTS, "	if (first->marked)\n", "	if (0)\n", "the mark of later fragments"),
    Mutant(FRAGMENTS, "	key->ifindex = skb->ifindex;\n", "", "fragments on another interface"),
    Mutant(FRAGMENTS, "	key->id = flow->fragment_id;\n", "", "the identification of fragments"),
    Mutant(
        FRAGMENTS, "key->protocol = flow->ipv6 ? 0 : flow->protocol;", "key->protocol = 0;", "the protocol of fragments"
    ),
    Mutant(
        FRAGMENTS,
        "key->protocol = flow->ipv6 ? 0 : flow->protocol;",
        "key->protocol = flow->protocol;",
        "IPv6 fragments that name another protocol",
    ),
    Mutant(
        FRAGMENTS,
        "	__builtin_memcpy(key->saddr, &flow->saddr, sizeof(flow->saddr));\n",
        "",
        "fragments of another source",
    ),
)

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Rule lookups of both families over one table of random flows. The images
 * change while the program stays loaded, so nothing but an image differs.
 */
#include "bench.h"

/* One packet of the table; addresses are mapped, the port is in network order. Python: bench_images.py. */
struct mapped_target {
	union ip_addr daddr;
	union ip_addr saddr;
	__be16 dport;
	__u8 protocol;
	__u8 ipv6;
	__u32 answer; /* the slot that the program found */
};

int images_lookup(struct __sk_buff *skb)
{
	struct progress *at = progress();
	struct mapped_target *target;
	struct pkt_ctx ctx = {};
	struct flow flow = {};
	__u32 index;

	if (!at)
		return TC_ACT_SHOT;
	index = at->runs++ & (TARGETS - 1);
	target = bpf_map_lookup_elem(MAP(mapped_targets), &index);
	if (!target)
		return TC_ACT_SHOT;
	flow.daddr = target->daddr;
	flow.saddr = target->saddr;
	flow.dport = bpf_ntohs(target->dport);
	flow.protocol = target->protocol;
	flow.ipv6 = target->ipv6;
	SETTLED(&flow);
	match_rule(&ctx, &flow, skb->ifindex, first_word(&ctx, &flow));
	SETTLED(&ctx);
	target->answer = ctx.rule;
	return TC_ACT_OK;
}

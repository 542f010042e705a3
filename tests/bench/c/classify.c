/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Rule lookups over the same table of random flows: this collection's, the
 * original's, one hash lookup of the exact flow, and none.
 */
#include "original.h"

struct exact {
	__u32 destination;
	__be16 port;
	__u8 protocol;
	__u8 padding;
};

int classify_nothing(struct __sk_buff *skb)
{
	struct flow flow = {};
	__u32 index;
	struct target *target = next_target(&index);

	if (!target)
		return TC_ACT_SHOT;
	fill_flow(&flow, target);
	target->answer = flow.dport;
	return TC_ACT_OK;
}

int classify_ours(struct __sk_buff *skb)
{
	struct pkt_ctx ctx = {};
	struct flow flow = {};
	__u32 index;
	struct target *target = next_target(&index);

	if (!target)
		return TC_ACT_SHOT;
	fill_flow(&flow, target);
	match_rule(&ctx, &flow, skb->ifindex, first_word(&ctx, &flow));
	SETTLED(&ctx);
	target->answer = ctx.rule;
	return TC_ACT_OK;
}

int classify_original(struct __sk_buff *skb)
{
	struct original_range *range;
	struct flow flow = {};
	__u32 index;
	struct target *target = next_target(&index);

	if (!target)
		return TC_ACT_SHOT;
	fill_flow(&flow, target);
	range = original_find(flow.daddr.addr32[3], flow.dport, flow.protocol);
	target->answer = range ? range->proxy_ip : 0;
	return TC_ACT_OK;
}

int classify_hash(struct __sk_buff *skb)
{
	struct flow flow = {};
	__u32 index, *answer;
	struct target *target = next_target(&index);

	if (!target)
		return TC_ACT_SHOT;
	fill_flow(&flow, target);
	struct exact key = { flow.daddr.addr32[3], target->port, flow.protocol };

	answer = bpf_map_lookup_elem(MAP(exact), &key);
	target->answer = answer ? *answer : 0;
	return TC_ACT_OK;
}

/* Lower bounds: the cost of any program on the hook, with the same packet each time. */
int floor_empty(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

int floor_drop(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

int floor_parse(struct __sk_buff *skb)
{
	struct flow flow = {};

	if (parse_packet(skb, ETH_HLEN, &flow) != PKT_FLOW)
		return TC_ACT_SHOT;
	SETTLED(&flow);
	return TC_ACT_OK;
}

int floor_hash(struct __sk_buff *skb)
{
	struct flow flow = {};

	if (parse_packet(skb, ETH_HLEN, &flow) != PKT_FLOW)
		return TC_ACT_SHOT;
	SETTLED(&flow);
	struct exact key = { flow.daddr.addr32[3], bpf_htons(flow.dport), flow.protocol };

	return bpf_map_lookup_elem(MAP(exact), &key) ? TC_ACT_OK : TC_ACT_UNSPEC;
}

/* During an exchange of rule sets: each flow has the rule of one of the two. */
int classify_either(struct __sk_buff *skb)
{
	struct pkt_ctx ctx = {};
	struct flow flow = {};
	__u32 index;
	struct target *target = next_target(&index);
	struct progress *at = progress();
	__u32 *either;

	if (!target || !at)
		return TC_ACT_SHOT;
	either = bpf_map_lookup_elem(MAP(either), &index);
	if (!either)
		return TC_ACT_SHOT;
	fill_flow(&flow, target);
	match_rule(&ctx, &flow, skb->ifindex, first_word(&ctx, &flow));
	if (ctx.rule != either[0] && ctx.rule != either[1])
		at->wrong++;
	return TC_ACT_OK;
}

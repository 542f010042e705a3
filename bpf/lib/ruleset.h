/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Which rule names the flow.
 */
#ifndef TPROXY_RULESET_H
#define TPROXY_RULESET_H

#include "ctx.h"
#include "trie.h"

static __always_inline void *image_of(const struct policy *policy)
{
	__u32 generation = policy ? policy->generation : 0;

	return bpf_map_lookup_elem(MAP(image), &generation);
}

/* The page that holds the class directory of the interface: page 0 unless rules name it. */
static __always_inline struct page *directory_of(void *image, struct page *head, __u32 ifindex)
{
	struct page *bound = page_of(image, 1);
	__u32 i, at;

	if (!bound)
		return head;
	for (i = 0; i < PROBES; i++) {
		at = ((ifindex + i) & (GROUPED_INTERFACES - 1)) * 2;
		if (bound->word[at] == ifindex)
			return page_of(image, bound->word[at + 1]);
	}
	return head;
}

/* Slot of the best rule for the flow, by the class directory's word for its family and protocol. */
static __always_inline __u32 rule_of(void *image, struct page *directory, const struct flow *flow)
{
	__u32 is_udp = flow->protocol == IPPROTO_UDP;
	__u32 destination = host32(flow->destination.word[3]);
	__u32 source = host32(flow->source.word[3]);
	struct page *page;
	__u32 root;

	root = directory->word[GROUP_BASE + (flow->ipv6 ? GROUP_IPV6_TCP : GROUP_IPV4_TCP) + is_udp];
	if (!root)
		return 0;
	if (flow->ipv6)
		return walk_ipv6(image, root, flow);
	page = page_of(image, root + (destination >> 24));
	if (!page)
		return 0;
	return walk_ipv4(image, page->word[destination >> 16 & (PAGE_WORDS - 1)],
			 (__u64)(destination & 0xffff) << 16 * FIELD4_DADDR_LOW |
			 (__u64)flow->port << 16 * FIELD4_DPORT |
			 (__u64)(source >> 16) << 16 * FIELD4_SADDR_HIGH |
			 (__u64)source << 16 * FIELD4_SADDR_LOW);
}

/* Slot of a rule that intercepts something at the destination, whatever the port; for what has no ports. */
static __always_inline __u32 cover_of(void *image, struct page *directory, const struct flow *flow)
{
	__u32 destination = host32(flow->destination.word[3]);
	__u32 node = directory->word[GROUP_BASE + (flow->ipv6 ? GROUP_IPV6_INTERCEPT : GROUP_IPV4_INTERCEPT)];

	if (flow->ipv6)
		return walk_ipv6(image, node, flow);
	return walk_ipv4(image, node,
			 (__u64)(destination & 0xffff) << 16 * INTERCEPT4_DADDR_LOW |
			 (__u64)(destination >> 16) << 16 * INTERCEPT4_DADDR_HIGH);
}

static __always_inline void find_rule(struct __sk_buff *skb, struct passage *way, const struct flow *flow)
{
	void *image = image_of(way->policy);
	struct page *head, *directory, *actions;

	if (!image)
		return;
	head = directory = page_of(image, 0);
	if (!head)
		return;
	if (head->word[HEADER_GROUPS] > 1)
		directory = directory_of(image, head, skb->ifindex);
	if (!directory)
		return;
	way->rule = way->parsed == PARSED_FRAGMENT ? cover_of(image, directory, flow) : rule_of(image, directory, flow);
	if (!way->rule)
		return;
	actions = page_of(image, head->word[HEADER_ACTIONS] + way->rule / ACTIONS_PER_PAGE);
	if (actions)
		way->action = (struct action *)&actions->word[way->rule % ACTIONS_PER_PAGE * ACTION_WORDS];
}

#endif

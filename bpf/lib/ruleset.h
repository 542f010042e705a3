/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The rule of a packet.
 */
#ifndef TPROXY_RULESET_H
#define TPROXY_RULESET_H

#include "ctx.h"
#include "trie.h"

static __always_inline void *active_image(const struct policy *policy)
{
	__u32 generation = policy ? policy->generation : 0;

	return bpf_map_lookup_elem(MAP(image), &generation);
}

/* Return the page with the directory of the interface's group: page 0 unless a rule names it. */
static __always_inline struct page *group_directory(void *image, struct page *head, __u32 ifindex)
{
	__u32 i, pair, place = ifindex * head->word[HEADER_GROUP_SEED];
	struct page *groups = image_page(image, 1 + (place >> GROUP_PAGE_SHIFT));

	if (!groups)
		return head;
	for (i = 0; i < PROBES; i++) {
		pair = (((place >> GROUP_PAIR_SHIFT) + i) & (PAIRS_PER_PAGE - 1)) * 2;
		if (groups->word[pair] == ifindex)
			return image_page(image, groups->word[pair + 1]);
	}
	return head;
}

/* Return the distance of the word for a protocol from that for TCP in a group directory. */
static __always_inline __u32 protocol_word(__u8 protocol)
{
	if (protocol == IPPROTO_TCP)
		return GROUP_IPV4_TCP;
	return protocol == IPPROTO_UDP ? GROUP_IPV4_UDP : GROUP_IPV4_PORTLESS;
}

/*
 * Return the slot of the best rule for the flow, 0 for none. The ports of a
 * fragment are unknown: then it is a rule that intercepts the destination on any
 * port.
 */
static __always_inline __u32 lookup_rule(void *image, struct page *directory,
					 const struct flow *flow, bool fragment)
{
	__u32 daddr = bpf_ntohl(flow->daddr.addr32[3]);
	__u32 saddr = bpf_ntohl(flow->saddr.addr32[3]);
	__u64 second = fragment ? daddr >> 16 : flow->dport;
	struct page *page;
	__u32 word, node;

	if (fragment)
		word = flow->ipv6 ? GROUP_IPV6_INTERCEPT : GROUP_IPV4_INTERCEPT;
	else
		word = (flow->ipv6 ? GROUP_IPV6_TCP : GROUP_IPV4_TCP) +
		       protocol_word(flow->protocol);
	node = directory->word[GROUP_BASE + word];
	if (!node)
		return 0;
	if (!flow->ipv6 && !fragment) {
		page = image_page(image, node + (daddr >> 24));
		if (!page)
			return 0;
		node = page->word[daddr >> 16 & (PAGE_WORDS - 1)];
	}
	return lookup_node(image, node, flow,
			   (__u64)(daddr & 0xffff) << 16 * FIELD4_DADDR_LOW |
				   second << 16 * FIELD4_DPORT |
				   (__u64)(saddr >> 16) << 16 * FIELD4_SADDR_HIGH |
				   (__u64)saddr << 16 * FIELD4_SADDR_LOW);
}

/* Set the rule and the action of the context. */
static __always_inline void match_rule(struct __sk_buff *skb, struct pkt_ctx *ctx,
				       const struct flow *flow)
{
	void *image = active_image(ctx->policy);
	struct page *head, *directory, *actions;

	if (!image)
		return;
	head = directory = image_page(image, 0);
	if (!head)
		return;
	if (head->word[HEADER_GROUPS] > 1)
		directory = group_directory(image, head, skb->ifindex);
	if (!directory)
		return;
	ctx->rule = lookup_rule(image, directory, flow, ctx->kind == PKT_FRAGMENT);
	if (!ctx->rule)
		return;
	actions = image_page(image, head->word[HEADER_ACTIONS] + ctx->rule / ACTIONS_PER_PAGE);
	if (actions)
		ctx->action = (struct action *)&actions
				      ->word[ctx->rule % ACTIONS_PER_PAGE * ACTION_WORDS];
}

#endif

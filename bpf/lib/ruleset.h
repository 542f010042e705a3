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

/* Return the slot of the best rule for the flow, 0 for none. */
static __always_inline __u32 lookup_rule(void *image, struct page *directory,
					 const struct flow *flow)
{
	__u32 is_udp = flow->protocol == IPPROTO_UDP;
	__u32 daddr = bpf_ntohl(flow->daddr.addr32[3]);
	__u32 saddr = bpf_ntohl(flow->saddr.addr32[3]);
	struct page *page;
	__u32 root;

	root = directory
		       ->word[GROUP_BASE + (flow->ipv6 ? GROUP_IPV6_TCP : GROUP_IPV4_TCP) + is_udp];
	if (!root)
		return 0;
	if (flow->ipv6)
		return lookup_ipv6(image, root, flow);
	page = image_page(image, root + (daddr >> 24));
	if (!page)
		return 0;
	return lookup_ipv4(image, page->word[daddr >> 16 & (PAGE_WORDS - 1)],
			   (__u64)(daddr & 0xffff) << 16 * FIELD4_DADDR_LOW |
				   (__u64)flow->dport << 16 * FIELD4_DPORT |
				   (__u64)(saddr >> 16) << 16 * FIELD4_SADDR_HIGH |
				   (__u64)saddr << 16 * FIELD4_SADDR_LOW);
}

/* Return the slot of a rule that intercepts the destination on any port, 0 for none. */
static __always_inline __u32 lookup_intercept(void *image, struct page *directory,
					      const struct flow *flow)
{
	__u32 daddr = bpf_ntohl(flow->daddr.addr32[3]);
	__u32 node = directory->word[GROUP_BASE +
				     (flow->ipv6 ? GROUP_IPV6_INTERCEPT : GROUP_IPV4_INTERCEPT)];

	if (flow->ipv6)
		return lookup_ipv6(image, node, flow);
	return lookup_ipv4(image, node,
			   (__u64)(daddr & 0xffff) << 16 * INTERCEPT4_DADDR_LOW |
				   (__u64)(daddr >> 16) << 16 * INTERCEPT4_DADDR_HIGH);
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
	ctx->rule = ctx->kind == PKT_FRAGMENT ? lookup_intercept(image, directory, flow) :
						lookup_rule(image, directory, flow);
	if (!ctx->rule)
		return;
	actions = image_page(image, head->word[HEADER_ACTIONS] + ctx->rule / ACTIONS_PER_PAGE);
	if (actions)
		ctx->action = (struct action *)&actions
				      ->word[ctx->rule % ACTIONS_PER_PAGE * ACTION_WORDS];
}

#endif

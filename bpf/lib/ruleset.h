/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The rule of a packet.
 */
#ifndef TPROXY_RULESET_H
#define TPROXY_RULESET_H

#include "ctx.h"
#include "trie.h"

enum first_word {
	NO_WORD = GROUP_WORDS,
};

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
 * Return the word of a group directory at which the lookup for a packet begins. The
 * ports of a fragment can be unknown: then it is for a rule that splices or drops to
 * its destination, on any port. NO_WORD: no rule can be for it.
 */
static __always_inline __u32 first_word(const struct pkt_ctx *ctx, const struct flow *flow)
{
	__u32 protocol = protocol_word(flow->protocol);

	if (ctx->kind != PKT_FRAGMENT)
		return (flow->ipv6 ? GROUP_IPV6_TCP : GROUP_IPV4_TCP) + protocol;
	if (protocol == GROUP_IPV4_PORTLESS)
		return NO_WORD;
	return (flow->ipv6 ? GROUP_IPV6_TCP_COVER : GROUP_IPV4_TCP_COVER) + protocol;
}

/* Return the slot of the best rule for the flow, 0 for none; `word` is that of first_word(). */
static __always_inline __u32 lookup_rule(void *image, struct page *directory,
					 const struct flow *flow, __u32 word)
{
	__u32 daddr = bpf_ntohl(flow->daddr.addr32[3]);
	__u32 saddr = bpf_ntohl(flow->saddr.addr32[3]);
	bool cover = word >= GROUP_IPV4_TCP_COVER;
	__u64 second = cover ? daddr >> 16 : flow->dport;
	struct page *page;
	__u32 node;

	node = directory->word[(GROUP_BASE + word) & (PAGE_WORDS - 1)];
	if (!node)
		return 0;
	if (!flow->ipv6 && !cover) {
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
static __always_inline void match_rule(struct pkt_ctx *ctx, const struct flow *flow, __u32 ifindex,
				       __u32 word)
{
	void *image = active_image(ctx->policy);
	struct page *head, *directory, *actions;

	if (!image || word == NO_WORD)
		return;
	head = directory = image_page(image, 0);
	if (!head)
		return;
	if (head->word[HEADER_GROUPS] > 1)
		directory = group_directory(image, head, ifindex);
	if (!directory)
		return;
	ctx->rule = lookup_rule(image, directory, flow, word);
	if (!ctx->rule)
		return;
	actions = image_page(image, head->word[HEADER_ACTIONS] + ctx->rule / ACTIONS_PER_PAGE);
	if (actions)
		ctx->action = (struct action *)&actions
				      ->word[ctx->rule % ACTIONS_PER_PAGE * ACTION_WORDS];
}

#endif

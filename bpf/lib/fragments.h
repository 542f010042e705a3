/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Fragments that follow a first one get its verdict.
 *
 * Ports come from fragments with offset 0 alone, and each of these is judged by its own
 * ports. So no fragment that follows leads a datagram past a rule, whatever it overlaps.
 */
#ifndef TPROXY_FRAGMENTS_H
#define TPROXY_FRAGMENTS_H

#include "../maps.h"
#include "ctx.h"

/* As the default of net.ipv4.ipfrag_time: then the stack gives the datagram up. */
enum fragment_lifetime {
	FRAGMENT_SECONDS = 30,
};

static __always_inline void set_fragment_key(struct fragment_key *key, const struct __sk_buff *skb,
					     const struct flow *flow)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->saddr, &flow->saddr, sizeof(flow->saddr));
	__builtin_memcpy(key->daddr, &flow->daddr, sizeof(flow->daddr));
	key->ifindex = skb->ifindex;
	key->id = flow->fragment_id;
	key->protocol = flow->ipv6 ? 0 : flow->protocol;
}

static __always_inline struct fragment_state *first_fragment_of(const struct fragment_key *key)
{
	struct fragment_state *first = bpf_map_lookup_elem(MAP(fragments), key);

	return first && first->expires > bpf_ktime_get_ns() ? first : NULL;
}

/* Give a later fragment what the first one got; false if that is not known. */
static __always_inline bool follow_first_fragment(struct __sk_buff *skb, struct pkt_ctx *ctx,
						  const struct flow *flow)
{
	struct fragment_state *first;
	struct fragment_key key;

	if (flow->fragment != FRAGMENT_LATER)
		return false;
	set_fragment_key(&key, skb, flow);
	first = first_fragment_of(&key);
	if (!first)
		return false;
	ctx->verdict = first->verdict;
	if (first->marked)
		set_mark(skb, ctx);
	return true;
}

/*
 * Remember what a first fragment got. If two claim to be the first one, the stack may
 * take either, so the stricter verdict holds.
 */
static __always_inline void note_first_fragment(struct __sk_buff *skb, const struct pkt_ctx *ctx,
						const struct flow *flow)
{
	struct fragment_state state = { .verdict = ctx->verdict, .marked = ctx->marked };
	struct fragment_state *other;
	struct fragment_key key;

	if (flow->fragment != FRAGMENT_FIRST || ctx->kind == PKT_MALFORMED || is_test_run(skb))
		return;
	set_fragment_key(&key, skb, flow);
	other = first_fragment_of(&key);
	if (other && (other->verdict == VERDICT_DROP || state.verdict == VERDICT_PASS))
		state.verdict = other->verdict;
	state.expires = bpf_ktime_get_ns() + FRAGMENT_SECONDS * 1000000000ULL;
	bpf_map_update_elem(MAP(fragments), &key, &state, BPF_ANY);
}

#endif

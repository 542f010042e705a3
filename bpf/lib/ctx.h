/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The state of one packet: verdicts and the mark.
 */
#ifndef TPROXY_CTX_H
#define TPROXY_CTX_H

#include <linux/if_ether.h>

#include "../abi.h"
#include "packet.h"

struct pkt_ctx {
	struct policy *policy; /* NULL: the interface has no policy */
	__u32 interface_slot;
	__u32 flags;	       /* of the policy */
	__u32 rule;	       /* slot of the best rule, 0 = none */
	struct action *action; /* of that rule */
	long error;	       /* of bpf_sk_assign */
	enum pkt_kind kind;
	enum verdict verdict;
	bool marked; /* by this program: the packet is delivered to this host */
};

/*
 * Return whether this is no packet from a network, but a question of user space
 * (BPF_PROG_TEST_RUN). The kernel sets skb_iif of each packet that it receives, in
 * __netif_receive_skb_core() before the hook; a test run leaves it 0. A test run
 * leaves no trace but its answer in skb->cb, which real packets keep for later
 * programs of the hook.
 */
static __always_inline bool is_test_run(const struct __sk_buff *skb)
{
	return !skb->ingress_ifindex;
}

/* Return the offset of the IP header. */
static __always_inline __u32 network_offset(const struct pkt_ctx *ctx)
{
	return ctx->flags & POLICY_LAYER3 ? 0 : ETH_HLEN;
}

static __always_inline bool is_intercept(const struct pkt_ctx *ctx)
{
	return ctx->action && ctx->action->kind == ACTION_TPROXY;
}

static __always_inline enum reason verdict_pass(struct pkt_ctx *ctx, enum reason reason)
{
	ctx->verdict = VERDICT_PASS;
	return reason;
}

static __always_inline enum reason verdict_drop(struct pkt_ctx *ctx, enum reason reason)
{
	ctx->verdict = VERDICT_DROP;
	return reason;
}

static __always_inline enum reason default_action(struct pkt_ctx *ctx, enum reason reason)
{
	if (ctx->flags & POLICY_DEFAULT_PASS)
		ctx->verdict = VERDICT_PASS;
	else
		ctx->verdict = ctx->flags & POLICY_AUDIT ? VERDICT_WOULD_DROP : VERDICT_DROP;
	return reason;
}

/* Set the mark: the policy route then delivers the packet to this host. */
static __always_inline void set_mark(struct __sk_buff *skb, struct pkt_ctx *ctx)
{
	__u32 mark = DEFAULT_MARK, mask = DEFAULT_MARK_MASK;

	if (ctx->policy) {
		mark = ctx->policy->mark;
		mask = ctx->policy->mark_mask;
	}
	skb->mark = (skb->mark & ~mask) | (mark & mask);
	ctx->marked = true;
}

/*
 * Clear the mark of a packet that this program did not mark. A packet can come
 * in with the mark: a tunnel gives the mark of its own packets to the packets
 * that it carried (skb_scrub_packet() within a namespace). The policy route
 * would deliver such a packet to this host, to any destination.
 */
static __always_inline void clear_mark(struct __sk_buff *skb, const struct pkt_ctx *ctx)
{
	__u32 mask = ctx->policy ? ctx->policy->mark_mask : DEFAULT_MARK_MASK;

	if (!ctx->marked && skb->mark & mask && !(ctx->flags & POLICY_LOOPBACK))
		skb->mark &= ~mask;
}

#endif

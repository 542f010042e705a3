/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * One packet on its way through the program.
 */
#ifndef TPROXY_CTX_H
#define TPROXY_CTX_H

#include <linux/pkt_cls.h>

#include "../abi.h"
#include "packet.h"

/* One packet on its way through. */
struct pkt_ctx {
	struct policy *policy;      /* NULL: somebody removed it */
	__u32 interface_slot;
	__u32 flags;               /* of the policy */
	__u32 rule;                /* slot of the best rule, 0 = none */
	struct action *action;      /* of that rule */
	long error;                 /* of bpf_sk_assign */
	enum pkt_kind kind;
	enum verdict verdict;
	__u32 marked;           /* by us, so that it is delivered here */
};

static __always_inline void set_mark(struct __sk_buff *skb, struct pkt_ctx *ctx)
{
	__u32 mark = DEFAULT_MARK, mask = DEFAULT_MARK_MASK;

	if (ctx->policy) {
		mark = ctx->policy->mark;
		mask = ctx->policy->mark_mask;
	}
	skb->mark = (skb->mark & ~mask) | (mark & mask);
	ctx->marked = 1;
}

/*
 * A packet may come in with our mark: a tunnel hands on what it carried with
 * that of its own packets (skb_scrub_packet() within a namespace).  It would be
 * delivered here, wherever it is bound.
 */
static __always_inline void clear_mark(struct __sk_buff *skb, const struct pkt_ctx *ctx)
{
	__u32 mask = ctx->policy ? ctx->policy->mark_mask : DEFAULT_MARK_MASK;

	if (!ctx->marked && skb->mark & mask && !(ctx->flags & POLICY_LOOPBACK))
		skb->mark &= ~mask;
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
	ctx->verdict = ctx->flags & POLICY_DEFAULT_PASS ? VERDICT_PASS : VERDICT_DROP;
	return reason;
}

#endif

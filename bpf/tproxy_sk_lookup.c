/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The program for socket lookups of the network namespace (BPF_SK_LOOKUP). The stack asks
 * it for the socket of each new connection and of each datagram without a connected
 * socket. It gives packets of intercepted flows that lost their assigned socket to the
 * listener of their rule. It leaves all others to the stack, those to own addresses too.
 *
 * A packet with an assigned socket asks for none. So a packet of an intercepted flow that
 * comes here without a listener is dropped: no wildcard socket of this host gets it.
 */
#include "lib/ctx.h"
#include "lib/listeners.h"
#include "lib/policy.h"
#include "lib/ruleset.h"

/*
 * The context, struct bpf_sk_lookup of Linux 5.17 (include/uapi/linux/bpf.h). BCC 0.18 has
 * that of Linux 5.10, which has no interface.
 */
struct socket_lookup {
	__u64 socket;
	__u32 family;
	__u32 protocol;
	__u32 remote_ip4;
	__u32 remote_ip6[4];
	__be16 remote_port;
	__u16 reserved;
	__u32 local_ip4;
	__u32 local_ip6[4];
	__u32 local_port; /* in host order */
	__u32 ingress_ifindex;
};

/*
 * Read a word of the context. LLVM 19 joins the loads of both families into one at a
 * computed offset, which the verifier refuses. It never joins inline assembly.
 */
static __always_inline __u32 context_word(const __u32 *field)
{
	__u32 word = *field;

	barrier_var(word);
	return word;
}

static __always_inline void set_flow(struct flow *flow, struct socket_lookup *lookup)
{
	flow->protocol = lookup->protocol;
	flow->sport = bpf_ntohs(lookup->remote_port);
	flow->dport = lookup->local_port;
	if (lookup->family == FAMILY_INET) {
		addr_set_v4mapped(&flow->saddr, context_word(&lookup->remote_ip4));
		addr_set_v4mapped(&flow->daddr, context_word(&lookup->local_ip4));
		return;
	}
	flow->ipv6 = 1;
	flow->saddr.addr32[0] = context_word(&lookup->remote_ip6[0]);
	flow->saddr.addr32[1] = context_word(&lookup->remote_ip6[1]);
	flow->saddr.addr32[2] = context_word(&lookup->remote_ip6[2]);
	flow->saddr.addr32[3] = context_word(&lookup->remote_ip6[3]);
	flow->daddr.addr32[0] = context_word(&lookup->local_ip6[0]);
	flow->daddr.addr32[1] = context_word(&lookup->local_ip6[1]);
	flow->daddr.addr32[2] = context_word(&lookup->local_ip6[2]);
	flow->daddr.addr32[3] = context_word(&lookup->local_ip6[3]);
}

/* Set the rule of the flow, unless its interface has no policy or its destination is no rule's. */
static __always_inline void find_rule(struct pkt_ctx *ctx, struct flow *flow, __u32 ifindex)
{
	ctx->kind = PKT_FLOW;
	find_policy(ctx, ifindex);
	/* Else the compiler adds to its aligned address by an OR, which the verifier refuses. */
	barrier_var(flow);
	if (ctx->policy && !lookup_kind(&flow->daddr))
		match_rule(ctx, flow, ifindex, first_word(ctx, flow));
}

int tproxy_sk_lookup(struct socket_lookup *lookup)
{
	struct listener_key key;
	struct pkt_ctx ctx = {};
	struct flow flow = {};
	struct bpf_sock *sk;

	set_flow(&flow, lookup);
	find_rule(&ctx, &flow, lookup->ingress_ifindex);
	if (!is_intercept(&ctx))
		return SK_PASS;
	set_listener_key(&key, ctx.action, flow.protocol);
	sk = bpf_map_lookup_elem(MAP(listeners), &key);
	if (!sk) {
		want_listener(&key);
		return ctx.action->flags & ACTION_PASS_WHEN_MISSING ? SK_PASS : SK_DROP;
	}
	bpf_sk_assign(lookup, sk, 0);
	bpf_sk_release(sk);
	return SK_PASS;
}

/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Sockets of this host: sessions, and the listener of a proxy.
 */
#ifndef TPROXY_SOCKET_H
#define TPROXY_SOCKET_H

#include "ctx.h"

enum session {
	SESSION_NONE,
	SESSION_UNCONNECTED, /* a TCP listener or an unconnected UDP socket */
	SESSION_LOCAL,	     /* a session of this host */
};

/*
 * Fill the tuple for the lookup of a socket that gets packets of this flow on
 * `addr` and `port`. Return its size, which tells the family.
 */
static __always_inline __u32 build_tuple(struct bpf_sock_tuple *tuple, const struct flow *flow,
					 const union ip_addr *addr, __be16 port)
{
	if (!flow->ipv6) {
		tuple->ipv4.saddr = flow->saddr.addr32[3];
		tuple->ipv4.daddr = addr->addr32[3];
		tuple->ipv4.sport = bpf_htons(flow->sport);
		tuple->ipv4.dport = port;
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(tuple->ipv6.saddr, &flow->saddr, sizeof(flow->saddr));
	__builtin_memcpy(tuple->ipv6.daddr, addr, sizeof(*addr));
	tuple->ipv6.sport = bpf_htons(flow->sport);
	tuple->ipv6.dport = port;
	return sizeof(tuple->ipv6);
}

static __always_inline void clear_sport(struct bpf_sock_tuple *tuple, __u32 size)
{
	if (size == sizeof(tuple->ipv4))
		tuple->ipv4.sport = 0;
	else
		tuple->ipv6.sport = 0;
}

/*
 * TCP in any state but LISTEN is a session of this host, and so is a connected
 * UDP socket. TIME_WAIT is included: it must answer a SYN itself. The program
 * leaves the packets of a session to the stack, since early demux finds the
 * socket again. An assignment here would cost a route lookup for each packet.
 *
 * The two branches stay separate down to the release: the verifier refuses one
 * load through both a sock_common and a sock pointer ("same insn cannot be used
 * with different pointers").
 */
static __always_inline enum session lookup_session(struct __sk_buff *skb, const struct flow *flow)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = build_tuple(&tuple, flow, &flow->daddr, bpf_htons(flow->dport));
	enum session session;
	struct bpf_sock *sk;

	if (flow->protocol == IPPROTO_TCP) {
		sk = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
		if (!sk)
			return SESSION_NONE;
		session = sk->state == BPF_TCP_LISTEN ? SESSION_UNCONNECTED : SESSION_LOCAL;
		bpf_sk_release(sk);
		return session;
	}
	sk = bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return SESSION_NONE;
	session = sk->dst_port ? SESSION_LOCAL : SESSION_UNCONNECTED;
	bpf_sk_release(sk);
	return session;
}

static __always_inline struct bpf_sock *lookup_listener(struct __sk_buff *skb,
							struct bpf_sock_tuple *tuple, __u32 size)
{
	struct bpf_sock *sk;
	int i;

	for (i = 0; i < 2; i++) {
		sk = bpf_skc_lookup_tcp(skb, tuple, size, BPF_F_CURRENT_NETNS, 0);
		if (!sk || sk->state == BPF_TCP_LISTEN)
			return sk;
		/* A session of this client with the proxy, from the same port, hides it. */
		bpf_sk_release(sk);
		clear_sport(tuple, size);
	}
	return NULL;
}

/*
 * Return whether the packet is assigned to a socket that the rule was made for.
 * Another socket, or another user, can have got its port. The helpers read the
 * socket of a packet, so there is nothing to compare before the assignment, and
 * nothing in a test run, where no socket is assigned.
 */
static __always_inline bool is_listener_of_rule(struct __sk_buff *skb, const struct action *action)
{
	if (action->flags & ACTION_CHECK_LISTENER && bpf_get_socket_cookie(skb) != action->listener)
		return false;
	return !(action->flags & ACTION_CHECK_USER) || bpf_get_socket_uid(skb) == action->user;
}

/*
 * Assign the packet to the socket that listens on the proxy address of the rule. An
 * assignment cannot be taken back, so the caller drops a packet for a wrong listener.
 */
static __always_inline enum reason assign_socket(struct __sk_buff *skb, struct pkt_ctx *ctx,
						 const struct flow *flow)
{
	const union ip_addr *proxy = (const void *)ctx->action->tproxy_ip;
	struct bpf_sock_tuple tuple = {};
	__u32 size = build_tuple(&tuple, flow, proxy, ctx->action->tproxy_port);
	struct bpf_sock *sk;

	if (flow->protocol == IPPROTO_TCP) {
		sk = lookup_listener(skb, &tuple, size);
		if (!sk)
			return REASON_NO_LISTENER;
		ctx->error = bpf_sk_assign(skb, sk, 0);
		bpf_sk_release(sk);
	} else {
		sk = bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
		if (!sk)
			return REASON_NO_LISTENER;
		ctx->error = bpf_sk_assign(skb, sk, 0);
		bpf_sk_release(sk);
	}
	if (ctx->error)
		return REASON_ASSIGN_ERROR;
	return is_listener_of_rule(skb, ctx->action) ? REASON_SPLICED : REASON_WRONG_LISTENER;
}

#endif

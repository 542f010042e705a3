/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Listeners that the stack finds by a socket lookup, for packets that lose the assigned
 * socket: the stack forgets it when it puts a datagram together from fragments, and when
 * it clones a packet for a packet socket.
 *
 * User space puts a listener into the map: Linux 7.3 refuses an update by a program of
 * this hook. It does so when it finds the listener among the wanted ones. A socket leaves
 * the map when it is closed.
 */
#ifndef TPROXY_LISTENERS_H
#define TPROXY_LISTENERS_H

#include "../maps.h"
#include "ctx.h"
#include "policy.h"

static __always_inline void set_listener_key(struct listener_key *key, const struct action *action,
					     __u8 protocol)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->address, action->tproxy_ip, sizeof(key->address));
	key->port = action->tproxy_port;
	key->protocol = protocol;
	key->checks = action->flags & (ACTION_CHECK_LISTENER | ACTION_CHECK_USER);
	if (key->checks & ACTION_CHECK_LISTENER)
		key->cookie = action->listener;
	if (key->checks & ACTION_CHECK_USER)
		key->user = action->user;
}

static __always_inline void want_listener(const struct listener_key *key)
{
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(MAP(wanted_sockets), key, &now, BPF_ANY);
}

/*
 * Return whether a socket lookup may find the listener of the rule, and will. If it only
 * may, ask user space for the listener. The lookup leaves own addresses to the sockets of
 * this host.
 */
static __always_inline bool stack_finds_listener(struct __sk_buff *skb, const struct pkt_ctx *ctx,
						 const struct flow *flow)
{
	struct listener_key key;
	struct bpf_sock *sk;

	if (ctx->action->flags & ACTION_DROP_FRAGMENTS || lookup_kind(&flow->daddr))
		return false;
	set_listener_key(&key, ctx->action, flow->protocol);
	sk = bpf_map_lookup_elem(MAP(listeners), &key);
	if (sk) {
		bpf_sk_release(sk);
		return true;
	}
	if (!is_test_run(skb))
		want_listener(&key);
	return false;
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * What is known of the interface, and which packets always pass.
 */
#ifndef TPROXY_POLICY_H
#define TPROXY_POLICY_H

#include <linux/if_ether.h>

#include "../maps.h"
#include "ctx.h"
#include "endian.h"
#include "packet.h"

enum ports {
	SSH_PORT = 22,
	DHCP_SERVER_PORT = 67,      /* RFC 2131, section 4.1 */
	DHCP_CLIENT_PORT = 68,
	DHCPV6_SERVER_PORT = 547,   /* RFC 8415, section 7.2 */
	DHCPV6_CLIENT_PORT = 546,
};

enum {
	V4MAPPED_PREFIX_LEN = 96,           /* of ::ffff:0:0/96, RFC 4291, section 2.5.5.2 */
};

static __always_inline struct policy *policy_at(__u32 slot, __u32 ifindex)
{
	struct policy *policy = bpf_map_lookup_elem(MAP(policy), &slot);

	return policy && policy->ifindex == ifindex ? policy : 0;
}

/* The dead-man switch: a change that nobody confirmed in time is over, whether or not a process lives to undo it. */
static __always_inline int deadline_passed(const struct policy *policy)
{
	return policy->deadline && bpf_ktime_get_ns() > policy->deadline;
}

/*
 * A policy that was removed by hand leaves the interface closed but for SSH:
 * never open, never locked.  An Ethernet header ends with what the kernel knows
 * of the protocol; a packet of a layer 3 device has bytes of an address there.
 * No branch: the verifier would follow it through the whole program.
 */
static __always_inline __u32 flags_without_policy(struct __sk_buff *skb)
{
	__be16 protocol = 0;
	__u32 difference;

	bpf_skb_load_bytes(skb, ETH_HLEN - sizeof(protocol), &protocol, sizeof(protocol));
	difference = protocol ^ skb->protocol;
	return POLICY_ALLOW_SSH | (-difference >> 31) * POLICY_LAYER3;
}

static __always_inline void lookup_policy(struct __sk_buff *skb, struct pkt_ctx *ctx)
{
	struct policy *policy = 0;
	__u32 i, slot;

	for (i = 0; i < PROBES && !policy; i++) {
		slot = (skb->ifindex + i) & (INTERFACES - 1);
		policy = policy_at(slot, skb->ifindex);
	}
	if (policy && deadline_passed(policy))
		policy = policy_at(slot + INTERFACES, skb->ifindex);
	ctx->policy = policy;
	ctx->interface_slot = policy ? slot : UNKNOWN_SLOT;
	ctx->flags = policy ? policy->flags : flags_without_policy(skb);
}

static __always_inline struct interface_addresses *lookup_addresses(__u32 ifindex)
{
	struct interface_addresses *entry;
	__u32 i, slot;

	for (i = 0; i < PROBES; i++) {
		slot = (ifindex + i) & (INTERFACES - 1);
		entry = bpf_map_lookup_elem(MAP(ifindex_ip_map), &slot);
		if (entry && entry->ifindex == ifindex && entry->count)
			return entry;
	}
	return 0;
}

static __always_inline int has_address(struct interface_addresses *entry, const union ip_addr *address)
{
	__u32 i;

	for (i = 0; i < ADDRESSES && i < entry->count; i++) {
		if (addr_equal((const void *)entry->address[i], address))
			return 1;
	}
	return 0;
}

/* Whether the address lies in the prefix of `length` bits. */
static __always_inline int prefix_contains(const __u8 *prefix, __u32 length, const union ip_addr *address)
{
	const union ip_addr *network = (const void *)prefix;
	__u64 high = be64_to_cpu(network->addr64[0] ^ address->addr64[0]);
	__u64 low = be64_to_cpu(network->addr64[1] ^ address->addr64[1]);

	if (!length)
		return 1;
	if (length <= 64)
		return !(high >> ((64 - length) & 63));
	return !high && !(low >> ((128 - length) & 63));
}

static __always_inline int is_management(const struct policy *policy, const struct flow *flow)
{
	__u32 i;

	for (i = 0; i < MANAGEMENT && i < policy->management_count; i++) {
		const struct management *entry = &policy->management[i];

		if (entry->protocol != flow->protocol || entry->port != host16(flow->dport))
			continue;
		/* A prefix shorter than the mapping is IPv6, ::/0 too, and says nothing of IPv4. */
		if (!flow->ipv6 && entry->source_length < V4MAPPED_PREFIX_LEN)
			continue;
		if (prefix_contains(entry->source, entry->source_length, &flow->saddr))
			return 1;
	}
	return 0;
}

/* DHCPv6 answers come from the link only: RFC 8415, section 18.4 has them sent to and from link-local addresses. */
static __always_inline int is_dhcp(const struct flow *flow)
{
	if (flow->protocol != IPPROTO_UDP)
		return 0;
	if (!flow->ipv6)
		return flow->sport == DHCP_SERVER_PORT && flow->dport == DHCP_CLIENT_PORT;
	return flow->sport == DHCPV6_SERVER_PORT && flow->dport == DHCPV6_CLIENT_PORT &&
	       addr_is_link_local(&flow->saddr);
}

/* To a recorded address of the interface, or to any while none is recorded. */
static __always_inline int is_ssh(struct __sk_buff *skb, const struct pkt_ctx *ctx, const struct flow *flow)
{
	struct interface_addresses *entry;

	if (flow->protocol != IPPROTO_TCP || flow->dport != SSH_PORT || !(ctx->flags & POLICY_ALLOW_SSH))
		return 0;
	entry = lookup_addresses(skb->ifindex);
	return !entry || has_address(entry, &flow->daddr);
}

#endif

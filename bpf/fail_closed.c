/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Blocks an interface if its saved state cannot be restored (fail_closed).
 *
 * It passes ARP, frames of VLAN sub-interfaces, neighbour discovery, DHCP, SSH
 * if the policy allows it, and the management entries of the policy. It drops
 * the rest. It must load where the kernel refuses tproxy_splicer.c, and where
 * no compiler and no pin is left. So it has no map and one helper, and the
 * policy is part of the code: see POLICY_U64().
 */
#include <linux/pkt_cls.h>

#include "lib/icmp.h"
#include "lib/policy.h"
#include "lib/vlan.h"

/*
 * Eight bytes of struct policy, by their index. In the compiled program this is
 * a 64-bit load of a placeholder, which user space overwrites with the bytes.
 */
#define POLICY_U64(index) bpf_pseudo_fd(0, POLICY_PLACEHOLDER + (index))

/* Copy bytes from the IP header on; false if the packet ends before. Needs no link header. */
static __always_inline bool load_net(struct __sk_buff *skb, __u32 offset, void *to, __u32 length)
{
	return !bpf_skb_load_bytes_relative(skb, offset, to, length, BPF_HDR_START_NET);
}

static __always_inline bool load_ipv4(struct __sk_buff *skb, struct flow *flow)
{
	struct iphdr ip;

	/* Later fragments have no ports. */
	if (!load_net(skb, 0, &ip, sizeof(ip)) || ip.frag_off & bpf_htons(IP_OFFSET))
		return false;
	addr_set_v4mapped(&flow->saddr, ip.saddr);
	flow->protocol = ip.protocol;
	flow->l4_off = ip.ihl * 4;
	return true;
}

static __always_inline bool load_ipv6(struct __sk_buff *skb, struct flow *flow)
{
	struct ipv6hdr ip;

	if (!load_net(skb, 0, &ip, sizeof(ip)))
		return false;
	__builtin_memcpy(&flow->saddr, &ip.saddr, sizeof(flow->saddr));
	flow->protocol = ip.nexthdr;
	flow->hop_limit = ip.hop_limit;
	flow->ipv6 = 1;
	flow->l4_off = sizeof(ip);
	return !addr_is_v4mapped(&flow->saddr);
}

static __always_inline bool is_ssh_allowed(const struct flow *flow)
{
	const union {
		__u64 raw;
		__u32 word[2];
	} head = { POLICY_U64(0) }; /* ifindex and flags of struct policy */

	return flow->protocol == IPPROTO_TCP && flow->dport == SSH_PORT &&
	       head.word[1] & POLICY_ALLOW_SSH;
}

static __always_inline bool is_management_entry(const struct flow *flow)
{
	int i;

#pragma unroll
	for (i = 0; i < MANAGEMENT; i++) {
		const union {
			__u64 raw[3];
			struct management entry;
		} at = { { POLICY_U64(4 + 3 * i), POLICY_U64(5 + 3 * i), POLICY_U64(6 + 3 * i) } };

		if (management_matches(&at.entry, flow))
			return true;
	}
	return false;
}

static __always_inline bool is_allowed(struct __sk_buff *skb)
{
	struct flow flow = {};
	__be16 ports[2];

	if (skb->protocol == bpf_htons(ETH_P_ARP) || has_vlan_id(skb))
		return true;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (!load_ipv4(skb, &flow))
			return false;
	} else if (skb->protocol != bpf_htons(ETH_P_IPV6) || !load_ipv6(skb, &flow)) {
		return false;
	}
	if (is_portless(flow.protocol)) {
		flow.dport = flow.protocol;
		return is_management_entry(&flow);
	}
	if (!load_net(skb, flow.l4_off, ports, sizeof(ports)))
		return false;
	if (flow.ipv6 && flow.protocol == IPPROTO_ICMPV6)
		return is_ndisc(*(const __u8 *)ports) && flow.hop_limit == ND_HOP_LIMIT;
	/* Entries that are not in use have protocol 0, which is neither. */
	if (!has_ports(flow.protocol))
		return false;
	flow.sport = bpf_ntohs(ports[0]);
	flow.dport = bpf_ntohs(ports[1]);
	return is_dhcp(&flow) || is_ssh_allowed(&flow) || is_management_entry(&flow);
}

int fail_closed(struct __sk_buff *skb)
{
	return is_allowed(skb) ? TC_ACT_OK : TC_ACT_SHOT;
}

/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * VLAN tags.
 */
#ifndef TPROXY_VLAN_H
#define TPROXY_VLAN_H

#include "packet.h"

/* IEEE 802.1Q: the rest of the tag is the priority. Name of include/linux/if_vlan.h. */
enum vlan_mask {
	VLAN_VID_MASK = 0xfff,
};

/*
 * True if the kernel took the tag of a VLAN from the frame. VLAN 0 is only a
 * priority: the frame is this interface's own, see vlan_do_receive().
 */
static __always_inline bool has_vlan_id(const struct __sk_buff *skb)
{
	return skb->vlan_present && skb->vlan_tci & VLAN_VID_MASK;
}

/*
 * The kernel takes one tag from a frame before this hook, and those that follow
 * a priority tag behind it: check_vlan_id in __netif_receive_skb_core(), since
 * Linux 5.5. So two priority tags would hide a packet of this interface.
 */
static __always_inline enum pkt_kind parse_vlan_tag(struct __sk_buff *skb, __u32 offset)
{
	__be16 tci;

	if (bpf_skb_load_bytes(skb, offset, &tci, sizeof(tci)))
		return PKT_MALFORMED;
	return bpf_ntohs(tci) & VLAN_VID_MASK ? PKT_TAGGED : PKT_MALFORMED;
}

#endif

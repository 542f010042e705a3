/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/* Counts the datagrams for one port, and by source address, in tables of BCC's. */
#include "port.h"

BPF_ARRAY(packets, u64, ENTRIES);
BPF_HASH(senders, u32, u64, 16);

int count_packets(struct __sk_buff *skb)
{
	unsigned short port;
	u32 sender;
	int first = 0;

	if (bpf_skb_load_bytes(skb, PORT_OFFSET, &port, sizeof(port)) || port != bpf_htons(PORT))
		return -1; /* TC_ACT_UNSPEC: whoever comes next may judge */
	packets.increment(first);
	if (!bpf_skb_load_bytes(skb, SENDER_OFFSET, &sender, sizeof(sender)))
		senders.increment(sender);
	return -1;
}

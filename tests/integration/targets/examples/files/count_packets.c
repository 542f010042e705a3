/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
BPF_ARRAY(packets, u64, 1);

int count_packets(struct __sk_buff *skb)
{
	int first = 0;

	packets.increment(first);
	return -1; /* TC_ACT_UNSPEC */
}

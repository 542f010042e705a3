/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/* Goes first on the hook and lets everything through: whatever comes after it judges nothing. */
#include <uapi/linux/bpf.h>
#include <uapi/linux/pkt_cls.h>

int pass_all(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

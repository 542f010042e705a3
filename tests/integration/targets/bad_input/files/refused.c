/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/* Compiles, but reads the packet without asking how long it is: the verifier refuses it. */
int refused(struct __sk_buff *skb)
{
	return *(unsigned char *)(long)skb->data;
}

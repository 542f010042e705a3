/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A program that cuts every wire, ours by its name and its maps: what a guard is for. */
#define tproxy_splicer obedient
#include "tproxy_splicer.c"
#undef tproxy_splicer

int tproxy_splicer(struct __sk_buff *skb)
{
	obedient(skb);
	return TC_ACT_SHOT;
}

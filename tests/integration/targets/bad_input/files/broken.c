/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/* Does not compile. */
int broken(struct __sk_buff *skb)
{
	return no_such_name;
}

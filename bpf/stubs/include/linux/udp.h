/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
#ifndef _LINUX_UDP_H
#define _LINUX_UDP_H

#include <linux/types.h>

/* RFC 768 */
struct udphdr {
	__be16 source;
	__be16 dest;
	__be16 len;
	__sum16 check;
};

#endif

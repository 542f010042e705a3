/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
#include <linux/pkt_cls.h>

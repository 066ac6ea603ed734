/* SPDX-License-Identifier: BSD-3-Clause
 * Addresses as people write them <-> struct ip_addr (IPv4 is ::ffff:a.b.c.d).
 */
#pragma once

#include <stdbool.h>

#include "abi/types.h"

struct sockaddr;

enum { IP_TEXT_BYTES = 46 };

/* Parse "10.0.0.1", "fd77::1" or "::ffff:10.0.0.1". 0 or -EINVAL. */
int ip_parse(struct ip_addr *out, const char *text);
void ip_format(const struct ip_addr *ip, char out[IP_TEXT_BYTES]);
/* Address of an AF_INET/AF_INET6 socket address. 0 or -EAFNOSUPPORT. */
int ip_from_sockaddr(struct ip_addr *out, const struct sockaddr *sa);
/* Is `ip` in `network` ("10.77.0.0/24", "fd77::/64")? 1, 0, or -EINVAL when the text is no network. */
int ip_in_network(const struct ip_addr *ip, const char *network);
/* Can a client have this address? Not: unspecified, multicast, broadcast. */
bool ip_is_host(const struct ip_addr *ip);

/* SPDX-License-Identifier: BSD-3-Clause
 * One lane of the session table through crashes: replay window, reserved send counters, adoption.
 *
 * Stands for replay_accept() of dataplane/replay.c, send_counter_take() of dataplane/send_counter.h,
 * authenticate() of dataplane/auth.c, sessions_attach() of dataplane/sessions.c (flock, generation) and
 * control's kill-and-wait (control/supervisor.c). The window is 3 words of 2 bits instead of 128 of 64.
 *
 * Proven, for every crash between two stores, every order and repetition of packets: no counter of the
 * client is accepted twice, no reply counter is used twice, and two dataplanes never hold the table.
 *
 * A killed process leaves what a prefix of its stores left: x86 makes stores visible in program order
 * (and buffered ones of a dead process are still written), and each store is a release or comes first, so
 * the compiler keeps the order too.
 */
#define WORDS 3
#define BITS 2
#define RING (WORDS * BITS)  /* SESSION_WINDOW_BITS */
#define WINDOW (RING - BITS) /* SESSION_WINDOW */
#define RESERVE 2            /* SESSION_RESERVE */
#define COUNTERS 8           /* the client's, in any order and any number of times */
#ifdef LONG_LIVES
#define PACKETS 4            /* that arrive at one dataplane or another */
#define LIVES 2              /* dataplanes */
#else
#define PACKETS 3
#define LIVES 3
#endif

/* struct session_table, session_lane */
byte generation, highest, send_limit;
bool bits[RING];

/* the world */
bool locked;             /* flock on the table: the kernel drops it with the process */
byte holders;            /* dataplanes that use the table */
bool accepted[COUNTERS]; /* a request was served under it */
bool used[16];           /* a reply was sealed with it */
byte packets;
byte alive, lives;

#define CRASH if :: atomic { true -> goto dead } :: true fi

proctype dataplane()
{
	byte c, h, w, n, next, limit;
	bool fresh;

	/* sessions_attach() */
#ifndef BROKEN_LOCK
	if :: atomic { !locked -> locked = true } :: atomic { locked -> goto refused } fi;
#endif
	atomic { holders++; assert(holders == 1); generation++ }
	atomic { next = send_limit; limit = send_limit } /* send_counter_attach() */
	do
	:: atomic { packets == PACKETS -> goto dead }
	:: atomic {
		packets < PACKETS -> packets++;
		select(c : 0 .. COUNTERS - 1) /* authentic, perhaps old, perhaps seen */
	   }
	   atomic { /* replay_check() */
		h = highest;
		fresh = c >= h || (h - c <= WINDOW && !bits[c % RING]);
		if :: !fresh -> c = 0; h = 0; goto next_packet :: else fi
	   }
#ifdef BROKEN_BIT
	   /* the answer leaves before the bit is set */
	   atomic { assert(!accepted[c]); accepted[c] = true }
#endif
	   /* replay_accept() */
	   if
	   :: c >= h ->
		w = (h -> (h - 1) / BITS : 0); /* from */
		n = c / BITS - w;
		if :: n > WORDS -> n = WORDS :: else fi;
		w = c / BITS; /* to, downwards */
#ifdef BROKEN_HIGHEST
		do
		:: n > 0 -> CRASH; d_step { bits[(w % WORDS) * BITS] = 0; bits[(w % WORDS) * BITS + 1] = 0; w--; n-- }
		:: n == 0 -> break
		od;
		CRASH;
		highest = c + 1
#else
		CRASH;
		highest = c + 1;
		do /* clear_words() */
		:: n > 0 -> CRASH; d_step { bits[(w % WORDS) * BITS] = 0; bits[(w % WORDS) * BITS + 1] = 0; w--; n-- }
		:: n == 0 -> break
		od
#endif
	   :: else
	   fi;
	   CRASH;
	   bits[c % RING] = 1;
	   CRASH;
#ifndef BROKEN_BIT
	   atomic { assert(!accepted[c]); accepted[c] = true } /* charged, run: all that a repeat must not get */
#endif
	   /* send_counter_take(), then the reply leaves */
#ifdef BROKEN_PUBLISH
	   atomic { assert(!used[next]); used[next] = true }
	   CRASH;
	   if :: next == limit -> limit = limit + RESERVE; send_limit = limit :: else fi;
	   next++;
#else
	   if :: next == limit -> limit = limit + RESERVE; send_limit = limit :: else fi;
	   CRASH;
	   atomic { assert(!used[next]); used[next] = true; next++ }
#endif
next_packet:
	   atomic { c = 0; h = 0; w = 0; n = 0; fresh = false }
	od;
dead: /* killed, or told to stop */
	atomic { holders--; locked = false }
refused:
	alive--
}

/* Control: another dataplane whenever the last has gone; when it only believes so, flock must say no. */
proctype control()
{
	do
	:: atomic { lives < LIVES && alive == 0 -> lives++; alive++; run dataplane() }
	:: atomic { lives < LIVES && alive == 1 -> lives++; alive++; run dataplane() } /* too early */
	:: lives == LIVES -> break
	od
}

init { run control() }

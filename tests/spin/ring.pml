/* SPDX-License-Identifier: BSD-3-Clause
 * A single-producer single-consumer ring in shared memory, either side of which may die at any step.
 *
 * Stands for mailbox_put() and mailbox_get() of dataplane/abi/mailbox.h, which keep nothing outside
 * the ring: a side that comes back goes on from head and tail as it finds them.
 *
 * Proven: messages come out whole, in order and without a gap; only one that was being taken when the
 * consumer died comes out twice (commands are idempotent for that reason); the counters may wrap.
 *
 * Head is stored with release and loaded with acquire, tail likewise, so the stores of a slot are seen
 * before the head that covers them and the model needs no store buffers.
 */
#define SLOTS 2
#define WRAP 8 /* of head and tail; 2^64 in truth. A multiple of SLOTS */
#define MESSAGES 9
#define CRASHES 2 /* of each side */

/* struct mailbox_ring; a message is two words */
byte head, tail;
byte first[SLOTS], second[SLOTS];

byte written; /* messages whose put returned, or was under way at a crash and took effect */
byte taken;   /* the last message that came out */
bool again;   /* the consumer died while it took one */

#define LENGTH ((head + WRAP - tail) % WRAP)

proctype producer()
{
	byte h, t, crashes, m;

restart:
	do
	:: written == MESSAGES -> break
	:: written < MESSAGES ->
		m = written + 1;
		h = head;                 /* mailbox_put(): relaxed, its own */
		t = tail;                 /* acquire */
#ifdef BROKEN_FULL
		if :: (h + WRAP - t) % WRAP > SLOTS -> goto restart :: else fi;
#else
		if :: (h + WRAP - t) % WRAP >= SLOTS -> goto restart :: else fi;
#endif
#ifdef BROKEN_ORDER
		d_step { head = (h + 1) % WRAP; written++ };
#endif
		first[h % SLOTS] = m;     /* r->slots[head % MAILBOX_SLOTS] = *m */
		if :: crashes < CRASHES -> crashes++; goto restart :: true fi; /* dies here, or does not */
		second[h % SLOTS] = m;
		if :: crashes < CRASHES -> crashes++; goto restart :: true fi; /* dies here, or does not */
#ifndef BROKEN_ORDER
		d_step { head = (h + 1) % WRAP; written++ } /* release */
#endif
	od
}

proctype consumer()
{
	byte h, t, crashes, a, b;

restart:
	do
	:: taken == MESSAGES -> break
	:: taken < MESSAGES ->
		t = tail;                 /* mailbox_get(): relaxed, its own */
		h = head;                 /* acquire */
		if :: h == t -> goto restart :: else fi;
#ifdef BROKEN_TAIL
		tail = (t + 1) % WRAP;
#endif
		a = first[t % SLOTS];     /* *m = r->slots[tail % MAILBOX_SLOTS] */
		b = second[t % SLOTS];
		assert(a == b);
		assert(a == taken + 1 || (again && a == taken));
		again = false;
		taken = a;
		if
		:: crashes < CRASHES -> /* before anybody knows that it was taken */
			crashes++;
			again = true;
			goto restart
		:: true
		fi;
#ifndef BROKEN_TAIL
		tail = (t + 1) % WRAP     /* release */
#endif
	od
}

init {
	atomic { run producer(); run consumer() }
}

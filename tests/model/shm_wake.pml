/* How the receiver of the shm transport sleeps and is woken (plugins/shm/wait/bell.h, polled_links.h), as a Spin model: over hot and
 * parked links, with senders that may die after any instruction. The property: when everybody is done or dead and nothing
 * rings any more, a receiver that sleeps has left no message behind.
 *
 * Two links, each with a sender of its own and up to two messages. Stores go through a buffer and reach memory at any later
 * time, one after the other, as on x86: a fence waits for it to be empty. That is what the two fences are about; Spin by itself
 * knows sequential consistency alone. An eventfd in the epoll set is a bit that stays until it is taken. Looks at parked links in
 * turn come at any time, or never: nothing may depend on them. A link that rang may be quiet from then on, not announced until a
 * timer fires (wait/bell_watch.h); and no bell is heard more often than its link was announced. QUIET_LINKS: how many may be quiet
 * and are counted so.
 *
 * -DBROKEN=n removes one part, and then Spin must find an error:
 *   1  the sender looks at `armed` without a fence      2  the receiver looks at the rings without a fence
 *   3  the end of a link is told by a kick alone, not by a call that names the link
 *   4  links parked since the last sleep are not announced
 *   5  a bell wakes, but its link stays parked           6  a parked link is announced without a look after it
 *   7  a quiet link counts as announced                  8  the end of the quiet wakes nobody
 *   9  the sender rings without being asked
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef QUIET_LINKS
#define QUIET_LINKS 1
#endif

byte ring[2];    /* messages that the receiver can see */
byte buffered[2]; /* stored by the sender, not in memory yet */
bit armed[2];
bit slot_full, slot_link, slot_value; /* the receiver's store buffer, of stores to `armed` */
bit bell[2], kick, call[2];
bit done[2], dead[2], noticed[2];

proctype memory() { /* makes stores visible */
end: do
  :: atomic { buffered[0] > 0 -> buffered[0]--; ring[0]++ }
  :: atomic { buffered[1] > 0 -> buffered[1]--; ring[1]++ }
  :: atomic { slot_full -> armed[slot_link] = slot_value; slot_full = 0 }
  od
}

#define MAY_DIE if :: dead[me] = 1; goto gone :: skip fi

proctype sender(bit me) {
  byte count;
  bit seen;
  do
  :: count < MESSAGES ->
    MAY_DIE;
    buffered[me]++; /* flush: the commit word */
    count++;
    MAY_DIE;
#if BROKEN != 1
    buffered[me] == 0; /* ANNOUNCE */
#endif
    seen = armed[me];
    if
    :: seen ->
      MAY_DIE;
      atomic { buffered[me] == 0 -> seen = armed[me]; armed[me] = 0 } /* exchange */
      MAY_DIE;
      if :: seen -> bell[me] = 1 :: else fi
    :: else
#if BROKEN == 9
      -> bell[me] = 1
#endif
    fi
  :: break
  od;
gone:
  done[me] = 1
}

/* Notices deaths; other ends do not matter here. What a CPU still had in its store buffer is in memory long before a process has ended. */
proctype control() {
end: do
  :: atomic { dead[0] && done[0] && !noticed[0] && buffered[0] == 0 -> noticed[0] = 1;
#if BROKEN != 3
    call[0] = 1;
#endif
    kick = 1 }
  :: atomic { dead[1] && done[1] && !noticed[1] && buffered[1] == 0 -> noticed[1] = 1;
#if BROKEN != 3
    call[1] = 1;
#endif
    kick = 1 }
  od
}

bit parked[2], fresh[2], quiet[2]; /* the receiver's own */
byte unheard[2]; /* announcements that no bell was heard for, as far as there can be bells: one for each message */
bit timer_runs, timer;

proctype time() {
end: do
  :: atomic { timer_runs -> timer_runs = 0; timer = 1 }
  od
}

inline unpark(i) { parked[i] = 0; fresh[i] = 0 }
inline store_armed(i, value) { atomic { !slot_full -> slot_full = 1; slot_link = i; slot_value = value } }
#define ARMED(i) ((slot_full && slot_link == i) -> slot_value : armed[i])
#if BROKEN == 4
#define TO_ANNOUNCE(i) (!parked[i])
#else
#define TO_ANNOUNCE(i) (!parked[i] || fresh[i])
#endif
#if BROKEN == 6
#define TO_LOOK_AT(i) (!parked[i])
#else
#define TO_LOOK_AT(i) TO_ANNOUNCE(i)
#endif

inline attend() { /* calls */
  if :: atomic { call[0] -> call[0] = 0; unpark(0) } :: else fi;
  if :: atomic { call[1] -> call[1] = 0; unpark(1) } :: else fi
}
inline poll(i) {
  if
  :: !parked[i] && ring[i] > 0 ->
    atomic { ring[i]-- };
    if :: ARMED(i) -> store_armed(i, 0) :: else fi
  :: !parked[i] && ring[i] == 0 ->
    if
    :: !parked[1 - i] -> parked[i] = 1; fresh[i] = 1 /* empty for long enough; never the last one */
    :: skip
    fi
  :: parked[i] && ring[i] > 0 -> unpark(i) /* a look in turn */
  :: parked[i] -> skip
  fi
}
inline announce(i) {
  if
  :: TO_ANNOUNCE(i) && !ARMED(i) && !quiet[i] ->
    atomic {
      store_armed(i, 1);
      if :: i < QUIET_LINKS && unheard[i] < MESSAGES -> unheard[i]++ :: else fi
    }
  :: else
  fi
}
inline look(i) {
  if
  :: TO_LOOK_AT(i) && ring[i] > 0 -> unpark(i); input = 1
  :: else
  fi
}
inline hear(i) {
  if
  :: bell[i] ->
    bell[i] = 0;
    if
    :: i < QUIET_LINKS -> assert(unheard[i] > 0); unheard[i]--
    :: else
    fi;
#if BROKEN != 5
    unpark(i);
#endif
    if
    :: i < QUIET_LINKS -> quiet[i] = 1; if :: !timer -> timer_runs = 1 :: else fi
    :: skip
    fi
  :: else
  fi
}
#if BROKEN == 8
#define TIMER 0
#else
#define TIMER timer
#endif
#define QUIET (done[0] && done[1] && (!dead[0] || noticed[0]) && (!dead[1] || noticed[1]) && \
               buffered[0] == 0 && buffered[1] == 0 && !slot_full && !bell[0] && !bell[1] && !kick && !TIMER && !timer_runs)

proctype receiver() {
  bit input;
  do
  :: skip; attend(); poll(0); poll(1)
  :: skip;
    attend();
    input = 0;
    announce(0);
    announce(1);
#if BROKEN != 2
    !slot_full; /* ANNOUNCE */
#endif
    look(0);
    look(1);
#if BROKEN == 7
    fresh[0] = 0;
    fresh[1] = 0;
#else
    fresh[0] = fresh[0] && quiet[0];
    fresh[1] = fresh[1] && quiet[1];
#endif
    if
    :: input || call[0] || call[1]
    :: else -> /* asleep in epoll */
      if
      :: atomic {
           bell[0] || bell[1] || kick || TIMER ->
           kick = 0;
           hear(0);
           hear(1);
           if :: TIMER -> timer = 0; quiet[0] = 0; quiet[1] = 0 :: else fi
         }
      :: atomic { QUIET -> assert(ring[0] == 0 && ring[1] == 0); break }
      fi
    fi
  od
}

init {
  atomic { run memory(); run control(); run time(); run sender(0); run sender(1); run receiver() }
}

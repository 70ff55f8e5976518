#pragma once
// ipc/ring_buffer.h: bounded lock-free FIFOs of objects of one type, in one process or shared between several.
// Needs the standard library alone. The whole story is below; the algorithms are told in the two headers included.
//
//   SPSCRingBuffer<T, Capacity>   one producer, one consumer: ordered, wait-free, the fastest
//   MPMCRingBuffer<T, Capacity>   any number of both: ordered for each producer, lock-free but for its Blocking note
//
//   cdmf::ipc::SPSCRingBuffer<Sample, 1024> ring;             // static, on the stack, in another object, on the heap
//   if (!ring.try_push(sample)) { /* full */ }                // producer
//   if (Sample sample; ring.try_pop(sample)) { /* use it */ } // consumer
//
// Promises of both
//   - Capacity is a power of two, checked at compile time, and all of it is usable.
//   - T is any object type with a destructor that does not throw: movable only, without default constructor, throwing,
//     over-aligned. Every object is constructed and destroyed exactly once, those left inside by the ring's destructor.
//   - A call that returns false did nothing: it neither took from its argument nor wrote to it.
//   - Nothing is allocated: sizeof is the whole ring, which never moves and cannot be copied. A static ring is ready
//     before the first constructor of the program runs.
//   - Numbers cost nothing unless asked for: SPSCRingBuffer<T, Capacity, RingBufferCounting::on> has getStats().
//
// Between processes
//   A ring with kShareable (T trivially copyable) holds no pointers, so it may lie in a shared mapping, at a different
//   address in each process. One process constructs it there with placement new before the others look; a mapping is
//   aligned enough. Nobody needs to destroy it. All programs must agree on T, Capacity, the third argument and the
//   processor's ABI, and they trust each other: a peer that writes elsewhere in the mapping corrupts the ring. T must
//   hold no pointers either. When a process dies inside a call of the SPSC ring, the other end keeps what was
//   published, and nobody can take the dead one's place; in the MPMC ring it can leave a claimed cell that holds
//   everybody up. The shm transport handles the death of peers; these classes leave it to their user.
#include "ipc/ring_buffer/mpmc.h"
#include "ipc/ring_buffer/spsc.h"
#include "ipc/ring_buffer/stats.h"

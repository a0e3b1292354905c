/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated network: the connections of io.h as streams in memory.
 *
 * A stream has a bounded buffer. What was transmitted arrives later, in pieces of any size, and is received in pieces of any
 * size; a receiver that does not receive holds the sender up. Delays, sizes and faults come from the seed, in a stream of
 * chance of its own: a world without connections is the same with and without a network.
 *
 * A connection can be lost. Each side notices for itself: by a reset, soon, or by nothing at all until its keepalive gives up.
 * What was on its way then does not arrive. A side that closes or aborts loses nothing: what it had transmitted arrives
 * before the end of the stream.
 *
 * At a power cut everything stops. What was on its way to a socket can still be looked at (sim_socket_rest) until the power
 * is on again; then all sockets and listeners are gone, without being closed.
 */
#ifndef IZAR_SIM_NET_H
#define IZAR_SIM_NET_H

#include "sim/sim.h"

/* Odds are per million. All zero is fair weather: delays, pieces of any size, and no faults. */
struct sim_weather {
    uint32_t refuse; /* of connects: refused although somebody listens */
    uint32_t silent; /* of connects: no answer for up to a minute */
    uint32_t lose;   /* of arrivals: the connection is lost */
    uint32_t stall;  /* of arrivals: the next one takes up to ten seconds */
    uint32_t room;   /* bytes in a stream's buffer; 0: as the seed says */
};
void sim_net_weather(struct sim *sim, const struct sim_weather *weather);

enum sim_loss {
    SIM_LOSS_RESET,  /* both sides are reset */
    SIM_LOSS_OURS,   /* this side is reset, the other hears nothing more */
    SIM_LOSS_THEIRS, /* the other way round */
    SIM_LOSS_SILENT, /* neither side hears anything more */
    SIM_LOSSES,
};
/* Loses the connection of this socket. */
void sim_socket_lose(struct io_socket *socket, enum sim_loss loss);

/* With the power off: takes up to `size` of the bytes that were on their way to this socket. */
uint32_t sim_socket_rest(struct io_socket *socket, void *buf, uint32_t size);

uint32_t sim_sockets_open(const struct sim *sim); /* also those that nobody has accepted yet */
uint32_t sim_listeners_open(const struct sim *sim);

/* ---- between net.c and io_sim.c ---- */

struct net;

struct net *net_open(struct sim *sim);
void net_close(struct net *net);
/* A new world. */
void net_seed(struct net *net, uint64_t seed);
void net_power_cut(struct net *net);
/* Frees all sockets and listeners; their timers are forgotten. */
void net_forget(struct net *net);
struct net *net_of(const struct sim *sim);
struct net *net_of_loop(const struct io *io);

#endif

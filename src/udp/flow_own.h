/* What the files of a session share. Private to flow.c (from the first to the last), flow_server.c (the server that it has) and
 * flow_move.c (what passes through it). */
#ifndef AEGIS_UDP_FLOW_OWN_H
#define AEGIS_UDP_FLOW_OWN_H

#include "udp/udp.h"

static inline uint64_t flow_now_ns(const struct flow *flow)
{
	return loop_now_ns(flow->udp->loop);
}

static inline void flow_set_step(struct flow *flow, enum step step)
{
	flow->visit.step = step;
	flow->visit.step_ns = flow_now_ns(flow);
}

/* So many answers are awaited, if there is one to each datagram. When this worker is killed now they are lost: nobody else has the socket
 * that they come to. */
static inline uint64_t flow_awaits(const struct flow *flow)
{
	uint64_t asked = flow->datagrams[FROM_CLIENT], answered = flow->datagrams[FROM_SERVER];
	return asked > answered ? asked - answered : 0;
}

/* Its client's next datagram will not find it, here or in another worker. */
void flow_leave_table(struct flow *flow);

/* A server, and a socket that is connected to it. False and why not, when there is none to be had. */
must_check bool flow_dial(struct flow *flow, enum reason *why_not);
/* Leave it, for it is not there (an errno). False when no other one is to be tried: then the session still has it, and is to end. */
must_check bool flow_leave_server(struct flow *flow, int error, enum reason *why_not);
void flow_close_socket(struct flow *flow);
/* It did well, or not; that is told once. At the end: it has said nothing. */
void flow_report(struct flow *flow, bool ok);
void flow_judge_at_end(struct flow *flow);

/* Take in what the server sent: how many parcels came, or -1 when the session has ended. */
int flow_take_replies(struct flow *flow);
void flow_on_server(struct loop_io *io, int events);

#endif

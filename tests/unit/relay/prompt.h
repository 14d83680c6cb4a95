/* A loopback that is never late, for a program that is linked with this: what a peer has sent is there when the relay reads.
 *
 * On a busy machine the kernel leaves what was sent to a thread of its own, and the relay finds less than the test gave it: a stream that
 * is bulk looks like many small pieces then, and how much of it is spliced depends on what else runs. Here recv() and splice() from a
 * socket that was named by prompt_pair() wait, for a moment at the most, until as much has come as they ask for, or all that was sent.
 */
#ifndef TESTS_UNIT_RELAY_PROMPT_H
#define TESTS_UNIT_RELAY_PROMPT_H

/* What is sent by the peer's end comes to the other one. Nothing was sent by it before. */
void prompt_pair(int peer, int end);
/* All pairs are forgotten. */
void prompt_forget(void);

#endif

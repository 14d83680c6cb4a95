/* The program and its libraries, as they lie in memory. */
#ifndef AEGIS_OS_IMAGE_H
#define AEGIS_OS_IMAGE_H

/* What a start read of them and hardly anything reads again (what the dynamic linker goes by is 1.2 MB of libcrypto alone) does not stay
 * mapped. It is still in the page cache, and comes back where it is touched. Pages that were written to stay as they are. */
void image_let_go(void);

#endif

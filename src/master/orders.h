/* What the master is told to do: by signals, and by a transition that ends. */
#ifndef AEGIS_MASTER_ORDERS_H
#define AEGIS_MASTER_ORDERS_H

#include "master/master.h"

/* Load the settings again, and go over to them when they are good. One that comes while another is under way follows it. */
void order_reload(struct master *master);
/* What becomes of a reload that changes no setting, and had certificates looked at first. config is taken over. */
void order_reload_after_certificates(
        struct master *master, struct config *config, enum certificates_end end, const struct config_errors *errors);
/* The same for an operator, who is answered: of a reload when it is over. timeout_ns: how long connections may go on, UINT64_MAX = as the
 * settings say. */
void order_reload_for(struct master *master, const struct asker *asker);
void order_drain_for(struct master *master, const struct asker *asker, uint64_t timeout_ns);
/* Take up service again after a drain. */
void order_undrain_for(struct master *master, const struct asker *asker);
/* End gracefully; told again, at once. name is the signal's, for the log. */
void order_stop(struct master *master, const char *name);
/* Accept no more, end what there is, stay up for a reload to revive. */
void order_drain(struct master *master);
/* The log file was moved away: open it anew, here and in the workers. */
void order_reopen_log(struct master *master);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What names a cluster.
 */
#ifndef IZAR_CLUSTER_IDS_H
#define IZAR_CLUSTER_IDS_H

enum { CLUSTER_ID_BYTES = 16 }; /* random, chosen when the cluster is made */

#endif

"""What the tests stand on: a test CA, servers, clients and the balancer as a subprocess. Knows nothing of nlb's code."""

"""What zconfig costs, measured against pymilvus and against the least that there is to do."""

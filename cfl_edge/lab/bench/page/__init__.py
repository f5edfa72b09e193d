"""The page of `teach` under load: latency, and what viewers cost the learner."""

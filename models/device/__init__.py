"""Where and how precisely a network computes, and what makes that repeatable and fast."""

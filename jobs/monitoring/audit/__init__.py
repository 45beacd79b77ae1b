"""Whether what is stored of monitored areas is what follows from their committed scenes."""

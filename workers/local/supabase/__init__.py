"""A double of the July deployment: storage, two edge functions, and the tables behind them."""

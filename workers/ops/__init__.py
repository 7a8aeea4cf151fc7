"""What operators see: metrics, state, history, and the server that shows them."""

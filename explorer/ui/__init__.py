"""The only room that knows Streamlit: forms, caching, streaming, the trace player."""
